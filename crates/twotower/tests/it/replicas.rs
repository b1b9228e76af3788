//! Servers over a primary and a streaming replica of it.

mod pair;

mod heavy_lag;

mod balancer;

mod scene;

mod load;

mod heavy_faults;
