//! Reading source as text: files, functions, imports. It is enough for rules of the house, and no parser of Rust.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::LAYERS;

pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

pub fn read_text(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

pub fn is_rust(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "rs")
}

pub fn rust(below: &[&str]) -> Vec<PathBuf> {
    files(below, &is_rust)
}

/// Files below these places that are wanted; what package managers put there is not ours.
pub fn files(below: &[&str], wanted: &dyn Fn(&Path) -> bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left: Vec<PathBuf> = below.iter().map(|place| root().join(place)).collect();
    while let Some(place) = left.pop() {
        if place.is_dir() {
            let entries = fs::read_dir(&place).unwrap_or_else(|error| panic!("{}: {error}", place.display()));
            let entries = entries.map(|entry| entry.expect("an entry").path());
            left.extend(entries.filter(|entry| !entry.ends_with("node_modules") && !entry.ends_with("__pycache__")));
        } else if wanted(&place) {
            found.push(place);
        }
    }
    assert!(!found.is_empty(), "nothing below {below:?}");
    found.sort();
    found
}

pub fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// `src/a/b.rs` is `a::b`, `src/a/mod.rs` is `a`, `src/a/b_tests.rs` is `a::b::tests`, `src/lib.rs` is the crate.
pub fn module_path(file: &Path) -> Vec<String> {
    let inner = file.strip_prefix(root().join("src")).expect("under src").with_extension("");
    let mut path: Vec<String> = inner.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    path.pop_if(|last| matches!(last.as_str(), "mod" | "lib"));
    if let Some(tested) = path.last().and_then(|last| last.strip_suffix("_tests")).map(str::to_owned) {
        path.pop();
        path.extend([tested, "tests".to_owned()]);
    }
    path
}

/// Every path from the crate's root that the code names: its line, and its first one or two names.
pub fn uses(text: &str, module: &[String]) -> Vec<(usize, Vec<String>)> {
    let code = code(text);
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(next) = ["crate::", "super::"].iter().filter_map(|start| code[at..].find(start)).min() {
        let start = at + next;
        at = start + "crate::".len();
        if code[..start].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let mut above: Vec<String> = Vec::new();
        if code[start..].starts_with("super::") {
            let mut ups = 1;
            while code[at..].starts_with("super::") {
                ups += 1;
                at += "super::".len();
            }
            let Some(kept) = module.len().checked_sub(ups) else { continue };
            above = module[..kept].to_vec();
            if above.is_empty() && !starts_with_a_module(&code[at..]) {
                // `super` of a module within the file.
                continue;
            }
        }
        let (items, _) = heads(&code, at);
        for (place, names) in items {
            let line = code[..place].lines().count().max(1) + usize::from(code[..place].ends_with('\n'));
            let path: Vec<String> = above.iter().cloned().chain(names).take(2).collect();
            if !path.is_empty() {
                found.push((line, path));
            }
        }
    }
    found
}

pub fn starts_with_a_module(code: &str) -> bool {
    LAYERS.iter().flat_map(|layer| *layer).any(|module| code.strip_prefix(module).is_some_and(|rest| rest.starts_with("::")))
}

/// The first names of what stands at `at`: one path, or each of a braced list. And where it ends.
pub fn heads(code: &str, at: usize) -> (Vec<(usize, Vec<String>)>, usize) {
    if !code[at..].starts_with('{') {
        let first: String = code[at..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let after = at + first.len();
        let second: String =
            code[after..].strip_prefix("::").unwrap_or_default().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let names = [first, second].into_iter().filter(|name| !name.is_empty()).collect();
        return (vec![(at, names)], after);
    }
    let mut items = Vec::new();
    let (mut depth, mut fresh) = (0, false);
    for (offset, c) in code[at..].char_indices() {
        let place = at + offset;
        match c {
            '{' => {
                depth += 1;
                fresh = depth == 1;
            }
            '}' => {
                depth -= 1;
                if depth == 0 {
                    return (items, place);
                }
            }
            ',' if depth == 1 => fresh = true,
            c if fresh && !c.is_whitespace() => {
                fresh = false;
                items.extend(heads(code, place).0);
            }
            _ => {}
        }
    }
    (items, code.len())
}

/// The text with comments and the insides of literals blanked; lines stay lines.
pub fn code(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let blank = |part: &str, out: &mut String| out.extend(part.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
    while let Some(c) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(raw) = rest.strip_prefix("r#\"") {
            raw.find("\"#").map_or(rest.len(), |end| end + 5)
        } else if c == '"' {
            closing_quote(rest)
        } else if let Some(length) = char_literal(rest) {
            length
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        };
        blank(&rest[..length], &mut out);
        rest = &rest[length..];
    }
    out
}

pub fn closing_quote(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of a character literal; a lifetime is none.
pub fn char_literal(text: &str) -> Option<usize> {
    let inner = text.strip_prefix('\'')?;
    if let Some(escaped) = inner.strip_prefix('\\') {
        // Whatever is escaped, a quote included, is no end.
        return escaped[1..].find('\'').map(|end| end + 4);
    }
    let c = inner.chars().next()?;
    inner[c.len_utf8()..].starts_with('\'').then(|| c.len_utf8() + 2)
}

/// Every path that the file's `use` declarations name, in full: `use a::{b, c::D}` is `a::b` and `a::c::D`. A renamed import has its
/// new name last.
pub fn imports(text: &str) -> Vec<Vec<String>> {
    let code = code(text);
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(next) = code[at..].find("\nuse ") {
        let start = at + next + "\nuse ".len();
        let end = start + code[start..].find(';').unwrap_or(code.len() - start);
        tree(&code[start..end], &[], &mut found);
        at = end;
    }
    found
}

fn tree(text: &str, above: &[String], found: &mut Vec<Vec<String>>) {
    let text = text.trim();
    if text.is_empty() {
        return;
    }
    if let Some(open) = text.find('{') {
        let mut path = above.to_vec();
        path.extend(text[..open].split("::").map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned));
        let inner = &text[open + 1..text.rfind('}').unwrap_or(text.len())];
        let (mut depth, mut start) = (0, 0);
        for (place, c) in inner.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    tree(&inner[start..place], &path, found);
                    start = place + 1;
                }
                _ => {}
            }
        }
        tree(&inner[start..], &path, found);
        return;
    }
    let (path, renamed) = text.split_once(" as ").map_or((text, None), |(path, name)| (path, Some(name)));
    let mut path: Vec<String> = above.iter().cloned().chain(path.split("::").map(|name| name.trim().to_owned())).collect();
    if let Some(name) = renamed {
        path.push(name.trim().to_owned());
    }
    found.push(path);
}
