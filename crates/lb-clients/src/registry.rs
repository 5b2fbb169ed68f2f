//! How a family of kinds is declared.

/// Lists the kinds of a family by their modules, each of which describes its kind in a static `KIND`. Adding a kind
/// takes its file, its `mod` line and its name here.
#[macro_export]
#[doc(hidden)]
macro_rules! registry {
    (
        $(#[$meta:meta])*
        pub static $registry:ident: $kind:ty = $family:literal named by $key:literal;
        $($module:ident),* $(,)?
    ) => {
        /// What runs each kind.
        static KINDS: &[&$kind] = &[$(&$module::KIND),*];

        $(#[$meta])*
        pub static $registry: lb_model::component::Registry = lb_model::component::Registry {
            family: $family,
            key: $key,
            kinds: &[$(&$module::KIND.kind),*],
        };
    };
}
