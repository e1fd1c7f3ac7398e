//! The order in which several places are used in turn, each as often as its weight says.

/// The places in the order of use: each as often as its weight says, as evenly spread as can be (smooth weighted round robin). At most
/// 256 places.
pub fn turns(weights: &[u32]) -> Box<[u8]> {
    let divisor = weights.iter().copied().filter(|weight| *weight > 0).reduce(gcd).unwrap_or(1);
    let weights: Vec<i64> = weights.iter().map(|weight| i64::from(weight.max(&1) / divisor).max(1)).collect();
    let total: i64 = weights.iter().sum();
    let mut current = vec![0_i64; weights.len()];
    let mut turns = Vec::new();
    for _ in 0..total {
        current.iter_mut().zip(&weights).for_each(|(current, weight)| *current += weight);
        let Some(best) = (0..current.len()).rev().max_by_key(|place| current[*place]) else { break };
        current[best] -= total;
        turns.push(best as u8);
    }
    turns.into()
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::turns;

    #[test]
    fn a_place_comes_as_often_as_its_weight_says() {
        assert_eq!(*turns(&[1, 1]), [0, 1]);
        assert_eq!(*turns(&[50, 20, 10]), [0, 1, 0, 0, 2, 0, 1, 0], "as evenly spread as can be");
        assert!(turns(&[]).is_empty());
    }
}
