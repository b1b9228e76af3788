//! Publishing and fetching, over a folder, an S3 server and the REST API of Supabase Storage.

mod damage;

mod place;

mod publish;

mod refusal;

mod server;

mod supabase_server;
