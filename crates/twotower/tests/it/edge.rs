//! The Edge Functions under Deno, with stand-ins for a project's services, on a PostgreSQL with the
//! migrations and a small seeded model.

mod agreement;

mod deploy;

mod probes;

mod processes;

mod project;

mod recommendations;

mod tokens;

mod user_embedding;
