//! Projects, which tenants have, and the load balancers in them.

mod backend;
mod balancer;
mod name;
mod nodes;
mod spec;

pub use backend::{Backend, HostName};
pub use balancer::{BalancerKind, BalancerProtocol, BalancerSpec, MAX_NODES, NODE_HEALTH_PORT};
pub(crate) use name::is_label;
pub use name::{MAX_OBJECT_NAME, ObjectName};
pub use nodes::{is_pool_of_nodes, pool_of_nodes};
pub use spec::{ProjectSpec, Quota};
