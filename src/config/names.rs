//! Generated names: of routes and limits that have none.

/// Longest name that is made; metrics labels stay readable, and the rest is told apart by a hash.
pub(in crate::config) const LONGEST: usize = 96;

/// ASCII without quotes (names stand in header values), and not too long.
pub(in crate::config) fn bounded(name: String) -> String {
    let plain: String = name.chars().map(|c| if c.is_ascii_graphic() && !"\"\\".contains(c) || c == ' ' { c } else { '_' }).collect();
    if plain.len() <= LONGEST && plain == name {
        return plain;
    }
    let hash = blake3::hash(name.as_bytes()).to_hex();
    let cut = plain.len().min(LONGEST - 9);
    format!("{}~{}", &plain[..cut], &hash[..8])
}
