//! HTTP/1.1 as bytes, for both sides: without a socket, a clock or a policy. To be read with RFC 9112 beside it.
//!
//! | file | RFC 9112 | what it has |
//! |---|---|---|
//! | `class` | 2.2, 5; RFC 9110 5.5, 5.6 | which bytes may stand where |
//! | `ids` | RFC 9110 16.3 | known field names by number, and sets of them |
//! | `head` | 2.1 | [`Head`]: a head's bytes and where its fields stand in them |
//! | `lent` | | what both are made of, lent from a store of the thread |
//! | `fields` | 5 | [`Fields`]: the fields that policies read and change, and what is written of them |
//! | `value` | 5.5 | [`Value`]: a field's value, as bytes and as text |
//! | `scan` | 2 to 5 | [`Scanner`]: bytes become heads, or are refused |
//! | `facts` | 3.2, 6, 9 | what fields say about framing and the connection, noted on the way |
//! | `framing` | 6.3, 9.3 | [`Framing`]: which body follows, and whether another message may |
//! | `chunks` | 7.1 | [`Chunks`]: reads a chunked body; `write_*`: write one |
//! | [`map`] | | heads as types of the `http` crate, off the hot path |
//! | `refusal` | | [`Refusal`]: every reason, with its word and status |
//!
//! ```
//! use outrigger::http1::{Fields, Framing, Head, Id, Limits, Scanner};
//!
//! let input = b"GET /a?b HTTP/1.1\r\nHost: shop\r\nX-Own: 1\r\n\r\nbytes of the next one";
//! let (mut scanner, mut head) = (Scanner::requests(Limits::default()), Head::new());
//! let taken = scanner.scan(&mut head, input)?.expect("the head is whole");
//! assert_eq!(&input[taken..], b"bytes of the next one");
//! assert_eq!((head.path_and_query(), head.get(Id::Host)), (&b"/a?b"[..], Some(&b"shop"[..])));
//! assert_eq!(Framing::of_request(&head), Framing::None);
//!
//! let (mut fields, mut out) = (Fields::from(head), Vec::new());
//! fields.remove_hop_by_hop();
//! fields.append(Id::Via, "1.1 me");
//! fields.write(&mut out);
//! assert_eq!(out, b"Host: shop\r\nX-Own: 1\r\nvia: 1.1 me\r\n");
//! # Ok::<(), outrigger::http1::Refusal>(())
//! ```

mod chunks;
mod class;
mod facts;
mod fields;
mod framing;
mod head;
mod ids;
mod lent;
pub mod map;
mod refusal;
mod scan;
mod value;

pub use chunks::{Chunks, Piece, write_chunk, write_last, write_size};
pub use fields::{Fields, Named, write_number};
pub use framing::Framing;
pub use head::{Field, Form, Head, Method, Version};
pub use ids::{ESSENTIAL, HOP_BY_HOP, Id, IdSet, NEVER_TRAILERS, Name};
pub use refusal::Refusal;
pub use scan::{Limits, Scanner};
pub use value::{NotText, Value};
