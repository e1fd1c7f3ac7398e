//! The values behind the placeholders of one request, and how a placeholder is named.

use std::collections::{HashMap, HashSet};

/// The values that one request has given placeholders for. It is never printed: its `Debug` tells numbers alone.
#[derive(Default)]
pub struct Vault {
    /// Placeholders, each with its value.
    entries: Vec<(String, String)>,
    /// The numbers of `entries` by label and value.
    known: HashMap<(String, String), usize>,
    /// The numbers of `entries` by placeholder.
    numbers: HashMap<String, usize>,
    /// Bytes of the longest placeholder.
    longest: usize,
    /// The last number of each label.
    last: HashMap<String, u64>,
    /// What looks like a placeholder and came with the request.
    taken: HashSet<String>,
    /// The key of names that stay the same from request to request.
    key: Option<[u8; 32]>,
    /// Whether the texts of the answer are JSON themselves.
    pub(super) answers_json: bool,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Vault of {} values", self.entries.len())
    }
}

/// Characters of a name that is made of its value: 35 bits.
const TAG: usize = 7;
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

impl Vault {
    /// An empty vault for a request whose texts are `text`. `key`: the provider holds the earlier requests of the conversation, so that a
    /// value has the same name in each; else names are numbers, in the order of the values.
    pub fn new(text: &str, key: Option<[u8; 32]>) -> Self {
        let mut taken = HashSet::new();
        for at in memchr::memchr_iter(b']', text.as_bytes()) {
            let before = &text.as_bytes()[..at];
            let name = before.iter().rev().take_while(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || **byte == b'_').count();
            if name > 0 {
                taken.insert(text[at - name..at].to_owned());
            }
        }
        Self { taken, key, ..Self::default() }
    }

    /// Whether there is nothing to restore.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The placeholder of a value: `[EMAIL_1]`. It is in no text that came with the request.
    pub(super) fn placeholder(&mut self, label: &str, value: &str) -> &str {
        let at = match self.known.get(&(label.to_owned(), value.to_owned())) {
            Some(at) => *at,
            None => {
                let name = self.name(label, value);
                self.taken.insert(name.clone());
                let placeholder = format!("[{name}]");
                self.longest = self.longest.max(placeholder.len());
                self.numbers.insert(placeholder.clone(), self.entries.len());
                self.entries.push((placeholder, value.to_owned()));
                self.known.insert((label.to_owned(), value.to_owned()), self.entries.len() - 1);
                self.entries.len() - 1
            }
        };
        &self.entries[at].0
    }

    fn name(&mut self, label: &str, value: &str) -> String {
        if let Some(key) = &self.key {
            let mut hasher = blake3::Hasher::new_keyed(key);
            hasher.update(label.as_bytes()).update(&[0]).update(value.as_bytes());
            let hash = hasher.finalize();
            let tag: String = hash.as_bytes().iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect();
            let names = (TAG..=tag.len()).map(|len| format!("{label}_{}", &tag[..len]));
            if let Some(name) = names.into_iter().find(|name| !self.taken.contains(name)) {
                return name;
            }
        }
        let last = self.last.entry(label.to_owned()).or_default();
        loop {
            *last += 1;
            let name = format!("{label}_{last}");
            if !self.taken.contains(&name) {
                return name;
            }
        }
    }

    /// The first placeholder in `text`: where it begins, and its number.
    pub(super) fn find(&self, text: &str) -> Option<(usize, usize)> {
        memchr::memchr_iter(b'[', text.as_bytes()).find_map(|at| Some((at, self.begins(&text[at..])?)))
    }

    fn begins(&self, text: &str) -> Option<usize> {
        // No further than a placeholder is long: a text of brackets must not be read again for each of them.
        let end = memchr::memchr(b']', &text.as_bytes()[..text.len().min(self.longest)])?;
        self.numbers.get(&text[..=end]).copied()
    }

    /// The placeholder and the value of a number.
    pub(super) fn entry(&self, at: usize) -> (&str, &str) {
        let (placeholder, value) = &self.entries[at];
        (placeholder, value)
    }

    /// Where the beginning of a placeholder stands that the end of `text` has cut.
    pub(super) fn cut(&self, text: &str) -> Option<usize> {
        let from = text.len().saturating_sub(self.longest);
        let at = from + memchr::memrchr(b'[', &text.as_bytes()[from..])?;
        let tail = &text[at..];
        let is_begun = |placeholder: &str| placeholder.len() > tail.len() && placeholder.starts_with(tail);
        self.entries.iter().any(|(placeholder, _)| is_begun(placeholder)).then_some(at)
    }
}
