//! Figures out of samples.

/// The value below which this share of them lies, between two samples if need be; 0 without samples.
pub(crate) fn percentile(samples: &[f64], share: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = sorted.len().saturating_sub(1) as f64 * share;
    let near = |at: f64| sorted.get(at as usize).copied().unwrap_or(0.0);
    let (below, above) = (near(at.floor()), near(at.ceil()));
    below + (above - below) * at.fract()
}

/// The middle one.
pub(crate) fn median(samples: &[f64]) -> f64 {
    percentile(samples, 0.5)
}

/// One thing that was measured, once in each round.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    /// What was measured.
    pub(crate) what: &'static str,
    /// Of whom.
    pub(crate) who: &'static str,
    pub(crate) unit: &'static str,
    /// One value for each round.
    pub(crate) rounds: Vec<f64>,
}

impl Series {
    /// Of the rounds.
    pub(crate) fn median(&self) -> f64 {
        median(&self.rounds)
    }

    /// The least and the most.
    pub(crate) fn range(&self) -> (f64, f64) {
        (percentile(&self.rounds, 0.0), percentile(&self.rounds, 1.0))
    }
}

/// All that was measured in rounds; what is of one kind stands together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures(pub(crate) Vec<Series>);

impl Figures {
    /// One more round's value.
    pub(crate) fn add(&mut self, what: &'static str, who: &'static str, unit: &'static str, value: f64) {
        match self.0.iter_mut().find(|series| (series.what, series.who) == (what, who)) {
            Some(series) => series.rounds.push(value),
            None => {
                let last = self.0.iter().rposition(|series| series.what == what);
                let at = last.map_or(self.0.len(), |last| last + 1);
                self.0.insert(at, Series { what, who, unit, rounds: vec![value] });
            }
        }
    }

    /// Its median, if it was measured.
    pub(crate) fn of(&self, what: &str, who: &str) -> Option<f64> {
        self.0.iter().find(|series| (series.what, series.who) == (what, who)).map(Series::median)
    }
}
