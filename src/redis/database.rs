//! A numbered database of a server.

/// A database by its number, with its name in metrics, traces and reports.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DatabaseId {
    pub(crate) number: u8,
    pub(crate) name: &'static str,
}
