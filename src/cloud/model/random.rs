//! The simulated cloud's own random numbers: splitmix64, so that one seed means one history on every platform.
//!
//! Here belong draws and nothing that knows what is drawn for.

/// The odd constant of splitmix64.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// A stream of random numbers.
#[derive(Debug, Clone)]
pub(super) struct Random {
    state: u64,
}

impl Random {
    /// The stream that belongs to these numbers, such as a seed and what it is drawn for. Order matters.
    pub(super) fn of(parts: impl IntoIterator<Item = u64>) -> Self {
        let state = parts.into_iter().fold(0, |state: u64, part| mix(state.wrapping_add(STEP) ^ mix(part)));
        Self { state }
    }

    /// The next 64 bits.
    pub(super) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(STEP);
        mix(self.state)
    }

    /// A number from 0 up to, not including, `bound`; 0 when that is 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        // The high half of the product; the bias is below 2^-32 for the bounds in use.
        u64::try_from((u128::from(self.next()) * u128::from(bound)) >> 64).unwrap_or(0)
    }

    /// A number from 0 up to, not including, 1.
    pub(super) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A number between two others.
    pub(super) fn between(&mut self, least: f64, most: f64) -> f64 {
        least + (most - least) * self.unit()
    }

    /// Moves `count` elements, chosen at random, to the front.
    pub(super) fn choose<T>(&mut self, from: &mut [T], count: usize) {
        let len = from.len();
        for i in 0..count.min(len) {
            let rest = u64::try_from(len - i).unwrap_or(0);
            let pick = usize::try_from(self.below(rest)).unwrap_or(0);
            from.swap(i, i + pick);
        }
    }

    /// Text of `length` letters and digits.
    pub(super) fn text(&mut self, length: usize) -> String {
        const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        let letter = |i: u64| LETTERS.get(usize::try_from(i).unwrap_or(0)).map_or('0', |b| char::from(*b));
        (0..length).map(|_| letter(self.below(62))).collect()
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_by_every_part_and_repeat() {
        let first = |parts: [u64; 3]| Random::of(parts).next();
        assert_eq!(first([1, 2, 3]), first([1, 2, 3]));
        for other in [[2, 2, 3], [1, 3, 3], [1, 2, 4], [2, 1, 3], [3, 2, 1]] {
            assert_ne!(first([1, 2, 3]), first(other), "{other:?}");
        }
    }

    #[test]
    fn draws_stay_in_bounds_and_spread() {
        let mut random = Random::of([7]);
        let mean = (0..10_000).map(|_| random.unit()).sum::<f64>() / 10_000.0;
        assert!((0.48..0.52).contains(&mean), "{mean}");
        assert!((0..1000).all(|_| random.below(7) < 7));
        assert_eq!(random.below(0), 0);
        let mut all: Vec<u32> = (0..100).collect();
        random.choose(&mut all, 100);
        assert_ne!(all, (0..100).collect::<Vec<_>>());
        all.sort_unstable();
        assert_eq!(all, (0..100).collect::<Vec<_>>());
    }
}
