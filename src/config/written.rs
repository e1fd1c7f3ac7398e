//! Lists and names as written, for the forms that serde builds from the checked tree.
//!
//! In these forms a key that has a default in the schema is always there; every other key is an `Option`.

/// A list. An item is `None` where the walk has reported a mistake: the other items keep their place.
pub(super) type Items<T> = Vec<Option<T>>;
/// Names to values, in the order of the file.
pub(super) type Pairs<T> = Vec<(String, Option<T>)>;
