//! A stage's progress as a bar of characters, and text cut to a width.

/// How far a stage is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Share {
    /// Devices that took the update.
    pub done: i64,
    /// Devices that failed or timed out.
    pub failed: i64,
    /// Devices that were pushed to and have not ended.
    pub open: i64,
    /// All of them.
    pub total: i64,
}

impl Share {
    /// The four parts of a bar that is so wide: done, failed, open, rest.
    pub fn parts(&self, width: usize) -> [usize; 4] {
        let (width, total) = (width as i64, self.total.max(1));
        // One failed device must be seen among thousands, and a bar is full only when everything is.
        let failed = (self.failed.max(0) * width + total - 1) / total;
        let done = (self.done.max(0) * width / total).min(width - failed.min(width));
        let failed = failed.min(width - done);
        let open = (self.open.max(0) * width / total).min(width - done - failed);
        [done, failed, open, width - done - failed - open].map(|n| n as usize)
    }
}

/// At most so many characters; the last one says that there were more.
pub fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parts_add_up_and_failures_are_seen() {
        let share = Share { done: 50, failed: 1, open: 25, total: 100 };
        assert_eq!(share.parts(20), [10, 1, 5, 4]);
        assert_eq!(Share { done: 999, total: 1000, ..Share::default() }.parts(20), [19, 0, 0, 1]);
        assert_eq!(Share { done: 1000, total: 1000, ..Share::default() }.parts(20), [20, 0, 0, 0]);
        assert_eq!(Share::default().parts(10), [0, 0, 0, 10]);
    }

    proptest! {
        #[test]
        fn a_bar_is_always_as_wide_as_asked(
            done in 0i64..2_000, failed in 0i64..2_000, open in 0i64..2_000, total in 0i64..2_000, width in 1usize..60,
        ) {
            let parts = Share { done, failed, open, total }.parts(width);
            prop_assert_eq!(parts.iter().sum::<usize>(), width);
            prop_assert!(failed == 0 || parts[1] > 0 || done * (width as i64) >= total * (width as i64 - 1));
        }
    }

    #[test]
    fn text_is_cut_by_characters() {
        assert_eq!(cut("80 % der Geräte", 20), "80 % der Geräte");
        assert_eq!(cut("80 % der Geräte", 13), "80 % der Ger…");
    }
}
