//! Pages on top of the HTTP API.
