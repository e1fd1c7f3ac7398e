//! permessage-deflate (RFC 7692), as a reader beside the connection needs it.

use flate2::{Decompress, FlushDecompress, Status};

use super::Lost;

/// The bytes that a sender takes off the end of each message.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
/// Bytes that are inflated at once.
const PIECE: usize = 4096;
/// Largest inflated message.
const LARGEST: u64 = 64 << 20;

/// One direction's part of an agreed permessage-deflate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deflate {
    /// A message may refer to bytes of earlier messages.
    pub takeover: bool,
}

impl Deflate {
    /// Reads the server's `Sec-WebSocket-Extensions` fields. Gives the parts of client and server; `None` in the result: no
    /// compression.
    ///
    /// # Errors
    /// An extension that the reader does not know, or one that is agreed on twice.
    pub fn agreed<'a>(fields: impl Iterator<Item = &'a str>) -> Result<Option<(Self, Self)>, Lost> {
        let mut agreed = None;
        for extension in fields.flat_map(|field| field.split(',')).map(str::trim).filter(|extension| !extension.is_empty()) {
            let mut terms = extension.split(';').map(str::trim);
            if !terms.next().is_some_and(|name| name.eq_ignore_ascii_case("permessage-deflate")) || agreed.is_some() {
                return Err(Lost::Reserved);
            }
            let (mut client, mut server) = (Self { takeover: true }, Self { takeover: true });
            for term in terms {
                match term.split('=').next().unwrap_or_default().trim() {
                    "client_no_context_takeover" => client.takeover = false,
                    "server_no_context_takeover" => server.takeover = false,
                    // The reader's window is the largest.
                    "client_max_window_bits" | "server_max_window_bits" => {}
                    _ => return Err(Lost::Reserved),
                }
            }
            agreed = Some((client, server));
        }
        Ok(agreed)
    }
}

/// The inflater of one direction. It takes its window with the first compressed message.
pub(super) struct Inflater {
    deflate: Deflate,
    state: Option<Box<Decompress>>,
    /// Inflated bytes of the message under way.
    given: u64,
    /// All inflated bytes.
    made: u64,
}

impl std::fmt::Debug for Inflater {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inflater").field("deflate", &self.deflate).field("given", &self.given).finish_non_exhaustive()
    }
}

impl Inflater {
    pub fn new(deflate: Deflate) -> Self {
        Self { deflate, state: None, given: 0, made: 0 }
    }

    /// All bytes that were inflated so far.
    pub fn made(&self) -> u64 {
        self.made
    }

    /// Inflates bytes of a message.
    pub fn feed(&mut self, mut bytes: &[u8], give: &mut dyn FnMut(&[u8])) -> Result<(), Lost> {
        let state = self.state.get_or_insert_with(|| Box::new(Decompress::new(false)));
        let mut out = [0; PIECE];
        loop {
            let (read, written) = (state.total_in(), state.total_out());
            let status = state.decompress(bytes, &mut out, FlushDecompress::Sync).map_err(|_| Lost::Inflate)?;
            let (read, written) = ((state.total_in() - read) as usize, (state.total_out() - written) as usize);
            bytes = &bytes[read..];
            self.given += written as u64;
            self.made += written as u64;
            if self.given > LARGEST {
                return Err(Lost::TooLarge);
            }
            give(&out[..written]);
            if status == Status::StreamEnd {
                // A final block (section 7.2.3.4) ends the stream, not the message.
                state.reset(false);
            } else if written < PIECE && (bytes.is_empty() || read == 0 && written == 0) {
                return if bytes.is_empty() { Ok(()) } else { Err(Lost::Inflate) };
            }
        }
    }

    /// Ends the message.
    pub fn end(&mut self, give: &mut dyn FnMut(&[u8])) -> Result<(), Lost> {
        self.feed(&TAIL, give)?;
        self.given = 0;
        if !self.deflate.takeover
            && let Some(state) = &mut self.state
        {
            state.reset(false);
        }
        Ok(())
    }
}
