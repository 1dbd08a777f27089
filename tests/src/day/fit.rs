//! A straight line through samples.

/// The line of least squares.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fit {
    /// How much it rises in a unit of x.
    pub(super) slope: f64,
    /// The standard error of that.
    pub(super) error: f64,
}

impl Fit {
    /// Through at least three samples (x, y) of which not all have one x.
    pub(super) fn through(samples: &[(f64, f64)]) -> Option<Self> {
        let n = samples.len() as f64;
        let mean = |value: fn(&(f64, f64)) -> f64| samples.iter().map(value).sum::<f64>() / n;
        let (x, y) = (mean(|s| s.0), mean(|s| s.1));
        let spread: f64 = samples.iter().map(|s| (s.0 - x).powi(2)).sum();
        if samples.len() < 3 || spread == 0.0 {
            return None;
        }
        let slope = samples.iter().map(|s| (s.0 - x) * (s.1 - y)).sum::<f64>() / spread;
        let residue: f64 = samples.iter().map(|s| (s.1 - y - slope * (s.0 - x)).powi(2)).sum();
        Some(Self { slope, error: (residue / (n - 2.0) / spread).sqrt() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_in_noise() {
        let check = |samples: &[(f64, f64)], slope: f64, error: f64| {
            let fit = Fit::through(samples).unwrap();
            assert!((fit.slope - slope).abs() < 1e-9 && (fit.error - error).abs() < 1e-9, "{fit:?}");
        };
        check(&[(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)], 2.0, 0.0);
        check(&[(0.0, 7.0), (1.0, 7.0), (5.0, 7.0)], 0.0, 0.0);
        check(&[(0.0, 0.0), (1.0, 1.0), (2.0, 0.0), (3.0, 1.0)], 0.2, 0.282_842_712_474_619);
        assert!(Fit::through(&[(1.0, 2.0), (2.0, 3.0)]).is_none());
        assert!(Fit::through(&[(1.0, 2.0); 3]).is_none());
    }
}
