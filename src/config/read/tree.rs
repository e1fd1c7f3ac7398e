//! Reads YAML text into a tree: every node knows its place.
//!
//! A tree is at most [`MAX_DEPTH`] deep and has at most [`MAX_NODES`] nodes, aliases followed. Tags and a second document are refused.
//! After a syntax error the tree holds the part before it.

use std::{collections::HashMap, rc::Rc};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, Tag};

use crate::config::error::{Fault, lines, quoted};

/// Deepest nesting that is read; the schema needs less than half.
const MAX_DEPTH: usize = 32;
/// Most nodes, each alias counted with all it stands for.
const MAX_NODES: usize = 20_000;
/// Most unquoted `${X}` that are reported in one run.
const MAX_UNQUOTED: usize = 50;
/// Replaces an unquoted `${X}`: the parser then reads the rest of the file.
const STAND_IN: char = '\u{E000}';

/// A place in the source; lines and columns count from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub(in crate::config) struct Mark {
    pub(in crate::config) line: u32,
    pub(in crate::config) column: u32,
}

/// One value of the file.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) at: Mark,
    pub(super) end: Mark,
    pub(super) shape: Shape,
    /// Whether the file broke off inside: a missing key may stand in the unread rest.
    pub(super) cut: bool,
    size: usize,
}

#[derive(Debug)]
pub(super) enum Shape {
    /// A word; `plain` if it was not quoted.
    Word {
        text: String,
        plain: bool,
    },
    List(Vec<Rc<Node>>),
    /// Keys in the order of the file, doubles included.
    Table(Vec<(Rc<Node>, Rc<Node>)>),
    /// A value with a mistake that is reported already.
    Broken,
}

impl Node {
    fn new(at: Mark, end: Mark, shape: Shape) -> Self {
        let size = 1 + match &shape {
            Shape::List(items) => items.iter().map(|item| item.size).sum(),
            Shape::Table(entries) => entries.iter().map(|(key, value)| key.size + value.size).sum(),
            Shape::Word { .. } | Shape::Broken => 0,
        };
        Self { at, end, shape, cut: false, size }
    }

    /// A table without keys, which is the meaning of an empty file.
    pub(super) fn nothing() -> Self {
        let at = Mark { line: 1, column: 1 };
        Self::new(at, at, Shape::Table(Vec::new()))
    }

    /// Whether it is this word.
    pub(super) fn is_word(&self, word: &str) -> bool {
        matches!(&self.shape, Shape::Word { text, .. } if text == word)
    }

    /// Nothing was written (`key:`, `~`, `null`).
    pub(super) fn is_empty(&self) -> bool {
        matches!(&self.shape, Shape::Word { text, plain: true } if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }
}

/// A tree with the mistakes of its text.
pub(super) struct Tree {
    pub(super) root: Node,
    pub(super) faults: Vec<Fault>,
    /// Whether the text broke off: a missing key may stand in the unread rest.
    pub(super) cut: bool,
}

impl Tree {
    /// The root of a text that is a value, not a file: an empty word stays one.
    pub(super) fn root_or_word(self, text: &str) -> Node {
        match self.root.shape {
            Shape::Table(entries) if entries.is_empty() && !text.starts_with('{') => {
                Node::new(self.root.at, self.root.end, Shape::Word { text: String::new(), plain: false })
            }
            shape => Node { shape, ..self.root },
        }
    }
}

/// Reads `text`. A file without content is an empty table.
pub(super) fn read(text: &str) -> Tree {
    let mut faults = Vec::new();
    let mut patched: Option<String> = None;
    for _ in 0..MAX_UNQUOTED {
        let source = patched.as_deref().unwrap_or(text);
        let mut builder = Builder::default();
        let stopped = builder.run(source);
        if let Some(Stop::Syntax(at, _)) = &stopped
            && let Some((mark, name, repaired)) = unquoted(source, *at)
        {
            faults.push(Fault::new(mark, format!("inside `{{}}` or `[]`, `{name}` must be quoted: write \"{name}\"")));
            patched = Some(repaired);
            continue;
        }
        let cut = stopped.is_some();
        if let Some(stop) = stopped {
            faults.push(stop.fault(source));
        }
        faults.append(&mut builder.faults);
        return Tree { root: builder.finish(), faults, cut };
    }
    Tree { root: Node::nothing(), faults, cut: true }
}

enum Stop {
    Syntax(Marker, String),
    Refused(Fault),
}

impl Stop {
    fn fault(self, source: &str) -> Fault {
        match self {
            Self::Refused(fault) => fault,
            Self::Syntax(at, info) => {
                let line = lines(source).nth(at.line().saturating_sub(1)).unwrap_or("");
                let hint = if info.contains("unknown anchor") {
                    "; the anchor must be written before the alias, and never around it"
                } else if line.starts_with([' ', '\t']) && line.trim_start_matches(' ').starts_with('\t') {
                    "; indent with spaces, not tabs"
                } else if info.contains("mapping values are not allowed") {
                    "; check the indentation, and quote a text that contains `: `"
                } else if info.contains("did not find expected key") {
                    "; check the indentation of this line"
                } else if info.contains("unexpected character") {
                    "; quote the text"
                } else {
                    ""
                };
                Fault::new(mark(at), format!("not YAML: {info}{hint}"))
            }
        }
    }
}

/// A container that is still open.
struct Open {
    at: Mark,
    anchor: usize,
    list: bool,
    items: Vec<Rc<Node>>,
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    root: Option<Rc<Node>>,
    anchors: HashMap<usize, Rc<Node>>,
    nodes: usize,
    faults: Vec<Fault>,
    documents: usize,
    cut: bool,
}

impl Builder {
    fn run(&mut self, source: &str) -> Option<Stop> {
        for event in Parser::new_from_str(source) {
            let result = match event {
                Ok((event, span)) => self.take(event, span),
                Err(error) => Err(Stop::Syntax(*error.marker(), error.info().to_owned())),
            };
            if let Err(stop) = result {
                self.cut = true;
                return Some(stop);
            }
        }
        None
    }

    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Stop> {
        let (at, end) = (mark(span.start), mark(span.end));
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(Stop::Refused(Fault::new(at, "a second document (`---`) is not read; one file is one document")));
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.tag(at, tag.as_deref());
                let plain = style == ScalarStyle::Plain;
                let shape = if text.contains(STAND_IN) { Shape::Broken } else { Shape::Word { text: text.into_owned(), plain } };
                self.put(Rc::new(Node::new(at, end, shape)), anchor)?;
            }
            Event::SequenceStart(anchor, ref tag) | Event::MappingStart(anchor, ref tag) => {
                self.tag(at, tag.as_deref());
                if self.open.len() >= MAX_DEPTH {
                    return Err(Stop::Refused(Fault::new(at, format!("nested deeper than {MAX_DEPTH} levels"))));
                }
                self.open.push(Open { at, anchor, list: matches!(event, Event::SequenceStart(..)), items: Vec::new() });
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(open) = self.open.pop() {
                    let anchor = open.anchor;
                    self.put(Rc::new(close(open, end, false)), anchor)?;
                }
            }
            Event::Alias(id) => match self.anchors.get(&id) {
                Some(node) => {
                    let node = Rc::clone(node);
                    self.put(node, 0)?;
                }
                None => return Err(Stop::Refused(Fault::new(at, "an alias inside its own anchor"))),
            },
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn tag(&mut self, at: Mark, tag: Option<&Tag>) {
        if let Some(tag) = tag.filter(|tag| !tag.is_yaml_core_schema()) {
            self.faults.push(Fault::new(at, format!("tags such as {} are not supported", quoted(&tag.to_string()))));
        }
    }

    fn put(&mut self, node: Rc<Node>, anchor: usize) -> Result<(), Stop> {
        // A closing container's children were counted when they came; only an alias brings many at once.
        let fresh = Rc::strong_count(&node) == 1;
        self.nodes += if fresh { 1 } else { node.size };
        if self.nodes > MAX_NODES {
            return Err(Stop::Refused(Fault::new(node.at, format!("more than {MAX_NODES} values, aliases followed"))));
        }
        if anchor > 0 {
            self.anchors.insert(anchor, Rc::clone(&node));
        }
        match self.open.last_mut() {
            Some(open) => open.items.push(node),
            None => self.root = Some(node),
        }
        Ok(())
    }

    /// The tree; containers that were never closed are closed here and marked.
    fn finish(mut self) -> Node {
        while let Some(open) = self.open.pop() {
            let node = Rc::new(close(open, Mark { line: u32::MAX, column: 1 }, true));
            match self.open.last_mut() {
                Some(outer) => outer.items.push(node),
                None => self.root = Some(node),
            }
        }
        self.anchors.clear();
        match self.root {
            Some(root) if !root.is_empty() => Rc::try_unwrap(root).unwrap_or_else(|_| Node::nothing()),
            _ => Node::nothing(),
        }
    }
}

fn close(open: Open, end: Mark, cut: bool) -> Node {
    let shape = if open.list {
        Shape::List(open.items)
    } else {
        let mut entries = Vec::with_capacity(open.items.len() / 2);
        let mut items = open.items.into_iter();
        while let (Some(key), Some(value)) = (items.next(), items.next()) {
            entries.push((key, value));
        }
        Shape::Table(entries)
    };
    let mut node = Node::new(open.at, end, shape);
    node.cut = cut;
    node
}

/// If the parser stopped at the `{` of an unquoted `${X}`: its place, its text, and the source with a stand-in of the same length.
fn unquoted(source: &str, at: Marker) -> Option<(Mark, String, String)> {
    let brace = source.char_indices().nth(at.index()).map(|(byte, _)| byte)?;
    if !source[..brace].ends_with('$') || !source[brace..].starts_with('{') {
        return None;
    }
    let dollar = brace - 1;
    let line_end = source[brace..].find('\n').map_or(source.len(), |n| brace + n);
    let close = source[brace..line_end].find('}').map(|n| brace + n + 1)?;
    let name = source[dollar..close].to_owned();
    let mut repaired = String::with_capacity(source.len() + 2 * name.len());
    repaired.push_str(&source[..dollar]);
    repaired.extend(name.chars().map(|_| STAND_IN));
    repaired.push_str(&source[close..]);
    let place = Mark { line: at.line() as u32, column: at.col() as u32 };
    Some((place, name, repaired))
}

fn mark(at: Marker) -> Mark {
    Mark { line: u32::try_from(at.line()).unwrap_or(u32::MAX), column: u32::try_from(at.col() + 1).unwrap_or(u32::MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Vec<(u32, u32, String)> {
        read(text).faults.into_iter().map(|f| (f.at.line, f.at.column, f.message)).collect()
    }

    #[test]
    fn places_count_from_one_in_characters() {
        let tree = read("é: {b: c}\n");
        let Shape::Table(entries) = &tree.root.shape else { panic!("a table") };
        let Shape::Table(inner) = &entries[0].1.shape else { panic!("a table") };
        assert_eq!((inner[0].0.at.line, inner[0].0.at.column), (1, 5));
        assert!(tree.faults.is_empty());
    }

    #[test]
    fn an_unquoted_variable_is_named_and_the_rest_is_still_read() {
        let tree = read("a: [${X:-}, 1]\nb: {c: ${Y}}\nd: e\n");
        let said: Vec<_> = tree.faults.iter().map(|f| (f.at.line, f.at.column, f.message.as_str())).collect();
        assert_eq!(
            said,
            [
                (1, 5, "inside `{}` or `[]`, `${X:-}` must be quoted: write \"${X:-}\""),
                (2, 8, "inside `{}` or `[]`, `${Y}` must be quoted: write \"${Y}\"")
            ]
        );
        assert!(!tree.cut);
        assert!(matches!(&tree.root.shape, Shape::Table(entries) if entries.len() == 3));
    }

    #[test]
    fn a_syntax_error_keeps_what_stood_before_it() {
        let tree = read("a: 1\nb: [2\nc: 3\n");
        assert!(tree.cut && tree.root.cut && tree.faults.len() == 1);
        assert!(matches!(&tree.root.shape, Shape::Table(entries) if !entries.is_empty()));
    }

    #[test]
    fn hints_name_the_usual_causes() {
        for (text, hint) in [
            ("a: b: c\n", "quote a text that contains `: `"),
            ("a:\n  - b\n c: d\n", "check the indentation of this line"),
            ("a: @b\n", "quote the text"),
            ("a: *x\n", "must be written before the alias"),
            ("a: &x [*x]\n", "alias inside its own anchor"),
            ("a: 1\n---\nb: 2\n", "one file is one document"),
            ("a: !include b\n", "tags such as `!include` are not supported"),
        ] {
            let said = faults(text);
            assert!(said.len() == 1 && said[0].2.contains(hint), "{text:?}: {said:?}");
        }
    }

    #[test]
    fn aliases_are_followed_but_bounded() {
        assert!(read("a: &x [1]\nb: *x\n").faults.is_empty());
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
        for n in 1..9 {
            bomb.push_str(&format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(", ")));
        }
        let said = faults(&bomb);
        assert!(said.len() == 1 && said[0].2.contains("aliases followed"), "{said:?}");
    }

    #[test]
    fn depth_is_bounded() {
        for depth in [MAX_DEPTH + 1, 200, 100_000] {
            // The parser has a bound of its own, which comes first where it looks ahead.
            let said = faults(&"[".repeat(depth));
            let bounded = said.len() == 1 && (said[0].2.contains("nested deeper") || said[0].2.contains("recursion limit"));
            assert!(bounded, "{depth}: {said:?}");
        }
        assert!(faults(&"- ".repeat(MAX_DEPTH + 1)).iter().any(|said| said.2.contains("nested deeper")));
    }

    #[test]
    fn an_empty_file_is_an_empty_table() {
        for text in ["", "\n# only a comment\n", "~\n"] {
            let tree = read(text);
            assert!(matches!(&tree.root.shape, Shape::Table(entries) if entries.is_empty()) && tree.faults.is_empty());
        }
    }
}
