//! Which body follows a head (RFC 9112 section 6.3), and whether another message may follow that body (section 9.3).
//!
//! | head | body |
//! |---|---|
//! | answer to HEAD, 1xx, 204, 304 | none, whatever the fields say |
//! | 101; 2xx to CONNECT | another protocol, until the end |
//! | `Transfer-Encoding: chunked` | chunks; a length beside it counts for nothing (a request with both is refused) |
//! | Content-Length | so many bytes |
//! | answer without either | until the connection is closed |
//! | request without either | none |
//!
//! Another coding than `chunked`, lengths that differ, and a coding in HTTP/1.0 never get here: [`super::Scanner`] refuses them.

use super::{
    head::{Head, Method, Version},
    ids::Id,
    refusal::Refusal,
};

/// How the end of a body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    None,
    /// So many bytes, 0 included.
    Length(u64),
    /// Chunks.
    Chunked,
    /// The body ends with the connection.
    UntilClose,
    /// What follows is another protocol, in both directions.
    Tunnel,
}

impl Framing {
    /// The body of a request.
    pub fn of_request(head: &Head) -> Self {
        match head.length() {
            _ if head.method() == Method::Connect => Self::Tunnel,
            _ if head.is_chunked() => Self::Chunked,
            Some(length) => Self::Length(length),
            None => Self::None,
        }
    }

    /// The body of an answer to a request with the method `asked`.
    ///
    /// # Errors
    /// It changes the protocol and `upgraded`, which says whether the request that was sent offers a change, is false.
    pub fn of_answer(head: &Head, asked: Method, upgraded: bool) -> Result<Self, Refusal> {
        Ok(match head.status() {
            101 if upgraded && head.version() == Version::Http11 => Self::Tunnel,
            101 => return Err(Refusal::Switch),
            200..=299 if asked == Method::Connect => Self::Tunnel,
            100..=199 | 204 | 304 => Self::None,
            _ if asked == Method::Head => Self::None,
            _ if head.is_chunked() => Self::Chunked,
            _ => head.length().map_or(Self::UntilClose, Self::Length),
        })
    }

    /// Whether the sender of `head` lets another message follow on its connection. Of an answer whose framing was ambiguous (a length
    /// beside chunks) nothing that follows is believed.
    pub fn may_reuse(self, head: &Head) -> bool {
        let ambiguous = head.is_chunked() && head.has(Id::ContentLength);
        head.keeps_alive() && !ambiguous && !matches!(self, Self::UntilClose | Self::Tunnel)
    }

    /// Whether nothing follows.
    pub fn is_empty(self) -> bool {
        matches!(self, Self::None | Self::Length(0))
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Limits, Scanner},
        *,
    };

    fn head(text: &str) -> Head {
        let mut head = Head::new();
        let mut scanner =
            if text.starts_with("HTTP/") { Scanner::answers(Limits::default()) } else { Scanner::requests(Limits::default()) };
        assert_eq!(scanner.scan(&mut head, text.as_bytes()), Ok(Some(text.len())), "{text}");
        head
    }

    /// RFC 9112 section 6.3, each of its rules.
    #[test]
    fn the_body_of_an_answer() {
        use Framing::{Chunked, Length, None, Tunnel, UntilClose};
        for (line, fields, asked, framing, reuse) in [
            ("200 OK", "Content-Length: 5\r\n", Method::Head, None, true),
            ("204 No Content", "Content-Length: 5\r\n", Method::Get, None, true),
            ("304 Not Modified", "Content-Length: 5\r\n", Method::Get, None, true),
            ("304 Not Modified", "Transfer-Encoding: chunked\r\n", Method::Get, None, true),
            ("103 Early Hints", "Content-Length: 5\r\n", Method::Get, None, true),
            ("200 OK", "", Method::Connect, Tunnel, false),
            ("407 No", "Content-Length: 1\r\n", Method::Connect, Length(1), true),
            ("200 OK", "Transfer-Encoding: Chunked\r\n", Method::Get, Chunked, true),
            ("200 OK", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", Method::Get, Chunked, false),
            ("200 OK", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", Method::Get, Chunked, false),
            ("200 OK", "Content-Length: 5\r\n", Method::Get, Length(5), true),
            ("200 OK", "Content-Length: 5, 5\r\nContent-Length: 5\r\n", Method::Get, Length(5), true),
            ("200 OK", "Content-Length: 0\r\nConnection: close\r\n", Method::Get, Length(0), false),
            ("200 OK", "", Method::Get, UntilClose, false),
            ("200 OK", "", Method::Head, None, true),
        ] {
            let head = head(&format!("HTTP/1.1 {line}\r\n{fields}\r\n"));
            let found = Framing::of_answer(&head, asked, false).expect("an answer");
            assert_eq!((found, found.may_reuse(&head)), (framing, reuse), "{line} {fields}");
        }
        let old = head("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n");
        assert!(!Length(5).may_reuse(&old));
        let old = head("HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 5\r\n\r\n");
        assert!(Length(5).may_reuse(&old));
    }

    /// RFC 9110 section 15.2.2: a server changes the protocol only where the client offered it.
    #[test]
    fn a_switch_needs_an_offer() {
        let switch = head("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
        assert_eq!(Framing::of_answer(&switch, Method::Get, true), Ok(Framing::Tunnel));
        assert_eq!(Framing::of_answer(&switch, Method::Get, false), Err(Refusal::Switch));
        let old = head("HTTP/1.0 101 Switching Protocols\r\n\r\n");
        assert_eq!(Framing::of_answer(&old, Method::Get, true), Err(Refusal::Switch));
    }

    #[test]
    fn the_body_of_a_request() {
        for (method, fields, framing) in [
            ("GET", "", Framing::None),
            ("POST", "", Framing::None),
            ("POST", "Content-Length: 0\r\n", Framing::Length(0)),
            ("HEAD", "Content-Length: 007\r\nContent-Length: 7\r\n", Framing::Length(7)),
            ("GET", "Transfer-Encoding: chunked\r\n", Framing::Chunked),
        ] {
            let head = head(&format!("{method} / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
            assert_eq!(Framing::of_request(&head), framing, "{method} {fields}");
        }
        assert_eq!(Framing::of_request(&head("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n")), Framing::Tunnel);
    }
}
