//! Servers on a primary with a streaming replica.

mod pair;

mod heavy_lag;

mod balancer;

mod scene;

mod load;

mod heavy_faults;
