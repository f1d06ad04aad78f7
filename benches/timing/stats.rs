//! Welch's t between any two classes of samples.

use crate::class::Class;

const CLASSES: usize = Class::ALL.len();
/// All but the planted one.
const HONEST: usize = CLASSES - 1;

/// Nanoseconds of each class, in rounds.
pub(crate) struct Samples {
    name: String,
    rounds: Vec<[u32; CLASSES]>,
}

/// The largest |t| of two classes, over all [`CUTS`].
#[derive(Clone, Copy)]
struct Difference {
    t: f64,
    classes: (usize, usize),
    cut: usize,
}

impl Samples {
    pub(crate) fn new(name: String) -> Samples {
        Samples { name, rounds: Vec::new() }
    }

    pub(crate) fn push(&mut self, round: [u32; CLASSES]) {
        self.rounds.push(round);
    }

    /// Prints what was found; whether there is no leak but the planted one.
    pub(crate) fn report(&self) -> bool {
        let cuts = CUTS.map(|percent| Cut::new(&self.rounds, percent));
        let difference = |one, other| {
            let differences = cuts.iter().enumerate().map(|(cut, samples)| Difference {
                t: samples.welch(one, other),
                classes: (one, other),
                cut,
            });
            differences.max_by(|a, b| a.t.total_cmp(&b.t)).unwrap()
        };
        let pairs = (0..HONEST).flat_map(|one| (0..one).map(move |other| (one, other)));
        let leak =
            pairs.map(|(one, other)| difference(one, other)).max_by(|a, b| a.t.total_cmp(&b.t)).unwrap();
        let planted =
            (0..HONEST).map(|one| difference(HONEST, one)).min_by(|a, b| a.t.total_cmp(&b.t)).unwrap();

        println!("\n{}, {} rounds, median {} ns", self.name, self.rounds.len(), cuts[0].limit);
        for (cut, percent) in cuts.iter().zip(CUTS) {
            let means: Vec<_> = cut.mean.iter().map(|mean| format!("{:8.1}", mean - cut.mean[0])).collect();
            println!("  cut at {percent:3} %, {:9} ns: {}", cut.limit, means.join(" "));
        }
        println!("  largest difference: {}", leak.told());
        println!("  planted microsecond: {}", planted.told());
        let verdict = match (leak.t < BOUND, planted.t >= BOUND) {
            (true, true) => "no leak",
            (false, _) => "A LEAK",
            (true, false) => "TOO NOISY: not even a microsecond is found; run it again on a quiet machine",
        };
        println!("  {verdict}");
        leak.t < BOUND && planted.t >= BOUND
    }
}

impl Difference {
    fn told(self) -> String {
        let (one, other) = (Class::ALL[self.classes.0], Class::ALL[self.classes.1]);
        format!("|t| = {:.2}, {one:?} against {other:?}, cut at {} %", self.t, CUTS[self.cut])
    }
}

/// The samples, the slowest cut down to what the fastest so many percent of all classes together take at most.
struct Cut {
    limit: u32,
    mean: [f64; CLASSES],
    /// Of the mean, squared.
    error: [f64; CLASSES],
}

impl Cut {
    fn new(rounds: &[[u32; CLASSES]], percent: usize) -> Cut {
        let mut all: Vec<u32> = rounds.iter().flatten().copied().collect();
        all.sort_unstable();
        let limit = all[(all.len() * percent / 100).min(all.len() - 1)];
        let count = rounds.len() as f64;
        let of = |class: usize| rounds.iter().map(move |round| f64::from(round[class].min(limit)));
        let mean: [f64; CLASSES] = std::array::from_fn(|class| of(class).sum::<f64>() / count);
        let error = std::array::from_fn(|class| {
            of(class).map(|sample| (sample - mean[class]).powi(2)).sum::<f64>() / (count - 1.0) / count
        });
        Cut { limit, mean, error }
    }

    fn welch(&self, one: usize, other: usize) -> f64 {
        let error = (self.error[one] + self.error[other]).sqrt();
        if error == 0.0 { 0.0 } else { (self.mean[one] - self.mean[other]).abs() / error }
    }
}

/// dudect's: one in 150,000 by chance.
const BOUND: f64 = 4.5;

/// Percentiles, fixed beforehand. Interrupts and other programs make a tail that is long, and the same for all classes;
/// uncut it hides whatever is smaller than itself. A sample beyond the cut counts as the cut: left out, a slow class
/// would lose its slow samples and look faster than it is.
const CUTS: [usize; 6] = [10, 25, 50, 75, 90, 100];
