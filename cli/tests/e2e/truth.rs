//! The cache against the truth, with the real program: random Dockerfiles and edits, each build beside one from scratch.
//! What the solver's own test of that name does with thousands of graphs, this does with a few real ones.

use std::fmt::Write as _;

use crate::cache::steps;
use crate::support::{Lap, needs, run};

/// Numbers that are the same in each run (xorshift64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// An instruction of the second stage.
#[derive(Clone)]
enum Step {
    /// Makes little of a file and a variable, so that other ones often give the same.
    Count {
        reads: u64,
        writes: u64,
        comment: u64,
    },
    Join {
        reads: u64,
        writes: u64,
    },
    Copy {
        source: u64,
    },
    FromStage {
        source: u64,
    },
    Mount {
        source: u64,
        writes: u64,
    },
    Nothing,
}

#[derive(Clone)]
struct Plan {
    files: Vec<u64>,
    argument: u64,
    steps: Vec<Step>,
}

fn step(numbers: &mut Numbers) -> Step {
    let (reads, writes, source) = (numbers.below(4), numbers.below(4), numbers.below(3));
    match numbers.below(6) {
        0 => Step::Count { reads, writes, comment: numbers.below(3) },
        1 => Step::Join { reads, writes },
        2 => Step::Copy { source },
        3 => Step::FromStage { source },
        4 => Step::Mount { source, writes },
        _ => Step::Nothing,
    }
}

impl Plan {
    fn new(numbers: &mut Numbers) -> Self {
        let steps = (0..3 + numbers.below(3)).map(|_| step(numbers)).collect();
        Self { files: (0..3).map(|_| numbers.below(3)).collect(), argument: 0, steps }
    }

    fn edit(&mut self, numbers: &mut Numbers, first: &Self) {
        let at = usize::try_from(numbers.below(self.steps.len() as u64)).unwrap();
        match numbers.below(8) {
            0..3 => self.files[at % 3] = numbers.below(3),
            3 => self.argument = numbers.below(2),
            4 => self.steps[at] = step(numbers),
            5 => self.steps.insert(at, step(numbers)),
            6 if self.steps.len() > 1 => drop(self.steps.remove(at)),
            _ => self.clone_from(first),
        }
    }

    fn dockerfile(&self) -> String {
        let mut text =
            "FROM busybox AS stage\nCOPY dir /dir\nRUN cat /dir/1 > /dir/0; rm /dir/1\nFROM busybox\nWORKDIR /w\n"
                .to_owned();
        let _ = writeln!(text, "ARG V={}", self.argument);
        for step in &self.steps {
            let line = match step {
                Step::Count { reads, writes, comment } => {
                    format!("RUN cat {reads} 2>/dev/null | wc -c > {writes}; true {comment}")
                }
                Step::Join { reads, writes } => format!("RUN echo $V $(cat {reads} 2>/dev/null) > {writes}"),
                Step::Copy { source } => format!("COPY dir/{source} ."),
                Step::FromStage { source } => {
                    format!("COPY --from=stage /dir/{} .", if *source == 1 { 0 } else { *source })
                }
                Step::Mount { source, writes } => {
                    format!("RUN --mount=target=/in,source=dir cat /in/{source} > {writes}")
                }
                Step::Nothing => "RUN true".to_owned(),
            };
            let _ = writeln!(text, "{line}");
        }
        text
    }

    fn write(&self, lap: &Lap) {
        for (name, value) in self.files.iter().enumerate() {
            lap.write(
                &format!("ctx/dir/{name}"),
                format!("content {value} {}\n", "x".repeat(usize::try_from(*value / 2).unwrap())),
            );
        }
    }
}

/// All files that the steps made or changed: path, kind, mode, owner and content.
fn tree(lap: &Lap, image: &str) -> String {
    lap.run(&["build", "-q", "-t", image, "-o", &format!("type=local,dest=out-{image}"), "ctx"]).ok();
    let out = lap.path(&format!("out-{image}/w"));
    let list = "find . -printf '%P %y %m %U:%G\\n' | sort; find . -type f | sort | xargs -r sha256sum";
    let said = run("sh", &["-c", &format!("cd {} && {list}", out.display())]).ok().out;
    std::fs::remove_dir_all(lap.path(&format!("out-{image}"))).unwrap();
    said
}

#[test]
fn builds_after_edits_are_those_from_scratch() {
    needs!(root);
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    for _ in 0..3 {
        let lap = Lap::new();
        let first = Plan::new(&mut numbers);
        let mut plan = first.clone();
        for _ in 0..5 {
            plan.write(&lap);
            let dockerfile = plan.dockerfile();
            let said = lap.build("cached", &dockerfile).ok();
            let again = lap.build("cached", &dockerfile).ok();
            assert_eq!(steps(&again).0, [""; 0], "{dockerfile}{}", again.err);
            assert_eq!(said.out, again.out, "{dockerfile}");

            let scratch = Lap::new();
            plan.write(&scratch);
            scratch.build("cached", &dockerfile).ok();
            assert_eq!(tree(&lap, "cached"), tree(&scratch, "cached"), "{dockerfile}{}", said.err);
            plan.edit(&mut numbers, &first);
        }
    }
}
