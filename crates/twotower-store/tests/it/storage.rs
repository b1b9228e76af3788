//! Publishing and fetching, over a folder, a server that speaks S3 and the REST API of Supabase Storage.

mod damage;

mod place;

mod publish;

mod refusal;

mod server;

mod supabase_server;
