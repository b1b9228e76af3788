//! Publishing and fetching, over a folder and over a server that speaks S3.

mod damage;

mod place;

mod publish;

mod refusal;

mod server;
