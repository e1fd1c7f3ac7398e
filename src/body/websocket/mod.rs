//! Reads the messages of a WebSocket (RFC 6455) beside the relay that passes its bytes on. Nothing is changed, kept or delayed.
//!
//! A [`Reader`] reads one direction: masked and unmasked frames, fragments, control frames between fragments, and messages under
//! permessage-deflate (RFC 7692). It holds at most one frame's head and one inflate window. After a fault it reads nothing more.

mod deflate;
#[cfg(test)]
mod tests;

pub use deflate::Deflate;
use deflate::Inflater;

/// Bytes of the longest frame head: two, a length of eight, a mask of four.
const LONGEST_HEAD: usize = 14;
/// Longest payload of a control frame (RFC 6455 section 5.5).
const LONGEST_CONTROL: u64 = 125;
/// Bytes that are unmasked at once.
const PIECE: usize = 2048;
/// Bytes of a compressed direction that are read at once: deflate makes at most 1,032 times as many of them.
const COMPRESSED: usize = 96;
/// Inflated bytes after which a turn is over.
const TURN: u64 = 128 * 1024;

/// A part of what a direction says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'a> {
    /// The next bytes of a text message, unmasked and inflated.
    Text(&'a [u8]),
    /// A text message is complete.
    End,
}

/// Why a direction cannot be read any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// A reserved bit or opcode without an extension that defines it.
    #[error("a frame uses an extension that was not agreed on")]
    Reserved,
    /// Frames in an order that RFC 6455 forbids, or a control frame that is too long or fragmented.
    #[error("the frames are not in the order of a message")]
    Order,
    /// Compressed bytes that are no deflate.
    #[error("a compressed message cannot be inflated")]
    Inflate,
    /// A message of more than 64 MiB.
    #[error("a message is too large to be read")]
    TooLarge,
}

/// The reader of one direction.
#[derive(Debug)]
pub struct Reader {
    head: [u8; LONGEST_HEAD],
    /// Bytes of `head` that have come.
    known: usize,
    /// The frame under way.
    frame: Option<Frame>,
    /// The message under way, between its first frame and its last.
    message: Option<Message>,
    inflater: Option<Inflater>,
    lost: Option<Lost>,
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    left: u64,
    mask: Option<[u8; 4]>,
    /// Index into the mask of the next byte.
    at: usize,
    last: bool,
    control: bool,
}

#[derive(Debug, Clone, Copy)]
struct Message {
    text: bool,
    compressed: bool,
}

impl Reader {
    /// A reader. `deflate`: the direction's part of a permessage-deflate that both sides have agreed on.
    pub fn new(deflate: Option<Deflate>) -> Self {
        Self { head: [0; LONGEST_HEAD], known: 0, frame: None, message: None, inflater: deflate.map(Inflater::new), lost: None }
    }

    /// Whether the bytes so far end where a frame ends: another frame may follow.
    pub fn is_between_frames(&self) -> bool {
        self.lost.is_none() && self.known == 0 && self.frame.is_none()
    }

    /// Whether the bytes so far end where a message ends: another message may follow.
    pub fn is_between_messages(&self) -> bool {
        self.is_between_frames() && self.message.is_none()
    }

    /// The fault after which nothing more is read.
    pub fn lost(&self) -> Option<Lost> {
        self.lost
    }

    /// Reads the next bytes and gives the parts of text messages to `each`. The network may cut the bytes anywhere.
    pub fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(Part<'_>)) {
        if self.lost.is_none()
            && let Err(lost) = self.read(bytes, &mut each)
        {
            self.lost = Some(lost);
            self.inflater = None;
        }
    }

    /// As [`feed`](Self::feed), but reads only as many bytes as one turn's work allows: a small compressed piece may be megabytes of text.
    /// Gives the number of bytes that were read. A turn inflates at most 256 KiB.
    pub fn feed_turn(&mut self, bytes: &[u8], mut each: impl FnMut(Part<'_>)) -> usize {
        let Some(before) = self.inflater.as_ref().map(Inflater::made) else {
            self.feed(bytes, each);
            return bytes.len();
        };
        let mut read = 0;
        for piece in bytes.chunks(COMPRESSED) {
            self.feed(piece, &mut each);
            read += piece.len();
            if self.inflater.as_ref().is_some_and(|inflater| inflater.made() - before > TURN) {
                break;
            }
        }
        read
    }

    fn read(&mut self, mut bytes: &[u8], each: &mut dyn FnMut(Part<'_>)) -> Result<(), Lost> {
        loop {
            if self.frame.is_none() {
                bytes = self.take_head(bytes)?;
            }
            let Some(frame) = &mut self.frame else { return Ok(()) };
            let now = usize::try_from(frame.left).unwrap_or(usize::MAX).min(bytes.len());
            let (payload, rest) = bytes.split_at(now);
            frame.left -= now as u64;
            let frame = *frame;
            if !frame.control {
                self.payload(frame, payload, each)?;
            }
            bytes = rest;
            if frame.left > 0 {
                return Ok(());
            }
            self.frame = None;
            if frame.last && !frame.control {
                self.end(each)?;
            }
        }
    }

    /// Takes bytes of a frame's head. Gives the bytes behind them; the frame begins when its head is whole.
    fn take_head<'b>(&mut self, mut bytes: &'b [u8]) -> Result<&'b [u8], Lost> {
        while let Some((&byte, rest)) = bytes.split_first() {
            self.head[self.known] = byte;
            self.known += 1;
            bytes = rest;
            if self.known >= 2 && self.known == head_length(self.head[1]) {
                self.begin()?;
                self.known = 0;
                break;
            }
        }
        Ok(bytes)
    }

    /// Begins the frame whose head is whole.
    fn begin(&mut self) -> Result<(), Lost> {
        let [first, second] = [self.head[0], self.head[1]];
        let (last, opcode) = (first & 0x80 != 0, first & 0x0f);
        let (left, behind) = match second & 0x7f {
            126 => (u64::from(u16::from_be_bytes([self.head[2], self.head[3]])), 4),
            127 => {
                let mut length = [0; 8];
                length.copy_from_slice(&self.head[2..10]);
                (u64::from_be_bytes(length), 10)
            }
            length => (u64::from(length), 2),
        };
        let mask = (second & 0x80 != 0).then(|| [self.head[behind], self.head[behind + 1], self.head[behind + 2], self.head[behind + 3]]);
        let compressed = first & 0x40 != 0;
        if first & 0x30 != 0 || compressed && (self.inflater.is_none() || !matches!(opcode, 1 | 2)) {
            return Err(Lost::Reserved);
        }
        match (opcode, self.message) {
            (1 | 2, None) => self.message = Some(Message { text: opcode == 1, compressed }),
            (0, Some(_)) => {}
            (8..=10, _) if last && left <= LONGEST_CONTROL => {}
            (3..=7 | 11.., _) => return Err(Lost::Reserved),
            _ => return Err(Lost::Order),
        }
        self.frame = Some(Frame { left, mask, at: 0, last, control: opcode >= 8 });
        Ok(())
    }

    fn payload(&mut self, frame: Frame, payload: &[u8], each: &mut dyn FnMut(Part<'_>)) -> Result<(), Lost> {
        let Some(mask) = frame.mask else { return self.plain(payload, each) };
        let mut piece = [0; PIECE];
        let mut at = frame.at;
        for masked in payload.chunks(PIECE) {
            let plain = &mut piece[..masked.len()];
            for (to, from) in plain.iter_mut().zip(masked) {
                *to = from ^ mask[at % 4];
                at += 1;
            }
            self.plain(plain, each)?;
        }
        if let Some(frame) = &mut self.frame {
            frame.at = at % 4;
        }
        Ok(())
    }

    /// Takes unmasked bytes of the message under way.
    fn plain(&mut self, bytes: &[u8], each: &mut dyn FnMut(Part<'_>)) -> Result<(), Lost> {
        let Some(message) = self.message else { return Ok(()) };
        let mut give = |text: &[u8]| {
            if message.text && !text.is_empty() {
                each(Part::Text(text));
            }
        };
        match &mut self.inflater {
            // A message that is no text is inflated too: later messages may refer to its bytes.
            Some(inflater) if message.compressed => inflater.feed(bytes, &mut give),
            _ => {
                give(bytes);
                Ok(())
            }
        }
    }

    fn end(&mut self, each: &mut dyn FnMut(Part<'_>)) -> Result<(), Lost> {
        let Some(message) = self.message else { return Ok(()) };
        if let Some(inflater) = self.inflater.as_mut().filter(|_| message.compressed) {
            let mut give = |text: &[u8]| {
                if message.text && !text.is_empty() {
                    each(Part::Text(text));
                }
            };
            inflater.end(&mut give)?;
        }
        self.message = None;
        if message.text {
            each(Part::End);
        }
        Ok(())
    }
}

/// Bytes of a frame's head, by its second byte.
fn head_length(second: u8) -> usize {
    let length = match second & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    2 + length + if second & 0x80 != 0 { 4 } else { 0 }
}

/// A whole text frame of the proxy's own, unmasked: a server masks nothing.
pub fn text_frame(text: &str) -> Vec<u8> {
    let mut frame = vec![0x81];
    match text.len() {
        short @ ..126 => frame.push(short as u8),
        middle @ ..65_536 => {
            frame.push(126);
            frame.extend_from_slice(&(middle as u16).to_be_bytes());
        }
        long => {
            frame.push(127);
            frame.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(text.as_bytes());
    frame
}

/// A close frame with `code` and as much of `reason` as fits (123 bytes). `masked`: as a client sends it.
pub fn close_frame(code: u16, reason: &str, masked: bool) -> Vec<u8> {
    let mut end = reason.len().min(123);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let payload: Vec<u8> = code.to_be_bytes().into_iter().chain(reason.bytes().take(end)).collect();
    let mut frame = vec![0x88, payload.len() as u8 | if masked { 0x80 } else { 0 }];
    if masked {
        // A mask of zeros leaves the payload as it is.
        frame.extend_from_slice(&[0; 4]);
    }
    frame.extend_from_slice(&payload);
    frame
}
