//! Cuts an input in pieces, as its first byte says: nothing that is read from a socket may depend on where it was cut.

/// The first byte, and the rest in pieces; the same byte always cuts in the same way.
pub fn cut(input: &[u8]) -> Option<(&[u8], Vec<&[u8]>)> {
    let (seed, bytes) = input.split_first()?;
    let (mut state, mut rest, mut pieces) = (u32::from(*seed) | 1, bytes, Vec::new());
    while !rest.is_empty() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // Small seeds cut often, large ones seldom; an empty piece now and then.
        let length = (state >> 16) as usize % (1 + usize::from(*seed)).max(2);
        let (piece, after) = rest.split_at(length.min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    Some((bytes, pieces))
}
