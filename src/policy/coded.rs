//! Kept answers in the codings in which clients have asked for them: each is coded once. Bounded in bytes; what nobody asks for goes first.

use bytes::Bytes;
use quick_cache::{Weighter, sync::Cache as Quick};

use crate::config::AnswerCoding;

/// Share of the cache's memory that coded forms may take beside it.
const SHARE: u64 = 8;
/// Bytes of a form beside its content.
const OVERHEAD: u64 = 64;

/// The forms, by the number of the kept content and the coding.
#[derive(Debug)]
pub struct CodedForms(Quick<(u64, AnswerCoding), Bytes, ByBytes>);

#[derive(Debug, Clone)]
struct ByBytes;

impl Weighter<(u64, AnswerCoding), Bytes> for ByBytes {
    fn weight(&self, _: &(u64, AnswerCoding), form: &Bytes) -> u64 {
        form.len() as u64 + OVERHEAD
    }
}

impl CodedForms {
    /// No forms yet; `memory` is what the cache may hold, in bytes.
    pub fn beside(memory: u64) -> Self {
        let most = memory / SHARE;
        Self(Quick::with_weighter((most / 4096).clamp(16, 65_536) as usize, most, ByBytes))
    }

    /// Bytes of the largest form that is worth keeping.
    pub fn largest(&self) -> usize {
        (self.0.capacity() / 16) as usize
    }

    /// The form of a content in a coding.
    pub fn get(&self, content: u64, coding: AnswerCoding) -> Option<Bytes> {
        self.0.get(&(content, coding))
    }

    /// Keeps a form.
    pub fn keep(&self, content: u64, coding: AnswerCoding, form: Bytes) {
        self.0.insert((content, coding), form);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_found_by_content_and_coding_and_bounded_in_bytes() {
        let forms = CodedForms::beside(8 * 64 * 1024);
        forms.keep(1, AnswerCoding::Gzip, Bytes::from_static(b"gzip"));
        assert_eq!(forms.get(1, AnswerCoding::Gzip).as_deref(), Some(&b"gzip"[..]));
        assert!(forms.get(1, AnswerCoding::Zstd).is_none() && forms.get(2, AnswerCoding::Gzip).is_none());
        for content in 2..200 {
            forms.keep(content, AnswerCoding::Brotli, vec![0; 4096].into());
        }
        assert!(forms.0.weight() <= 64 * 1024, "{} bytes", forms.0.weight());
        assert_eq!(forms.largest(), 4096);
    }
}
