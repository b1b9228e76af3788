//! Promises to clients that come through PostgREST, and to the roles of our components.

mod stand_in;

mod person;

mod matrix;

mod functions;

mod context;

mod user_tower;

mod text_ids;

mod answer;

mod rows;

mod erasure;

mod block_limit;

mod seed;

mod schedule;

mod probes;

mod heavy_retrieval;

mod heavy_cli;
