//! Generated names, for routes and limits that have none.

/// Longest generated name, in bytes: labels of metrics stay readable. A hash at the end tells longer names apart.
pub(in crate::config) const LONGEST: usize = 96;

/// A name in ASCII without quotes, because names stand in header values, and of at most [`LONGEST`] bytes.
pub(in crate::config) fn bounded(name: String) -> String {
    let plain: String = name.chars().map(|c| if c.is_ascii_graphic() && !"\"\\".contains(c) || c == ' ' { c } else { '_' }).collect();
    if plain.len() <= LONGEST && plain == name {
        return plain;
    }
    let hash = blake3::hash(name.as_bytes()).to_hex();
    let cut = plain.len().min(LONGEST - 9);
    format!("{}~{}", &plain[..cut], &hash[..8])
}
