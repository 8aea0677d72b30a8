//! `lap dockerfile`: what the frontend makes of a text, for scripts and for debugging.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::{Parser, Subcommand, ValueEnum};
use lap_frontend::word::{Lexer, Lookup};
use lap_frontend::{Code, Diagnostic, Facts, Options, Parsed, Stages, check, ignore, lower, parse, stages, targets};
use lap_solver::image::{DEFAULT_PATH, History, ImageConfig};
use lap_solver::pattern::Matcher;
use lap_solver::platform::Platform;
use serde_json::{Value, json};

use crate::pipeline::context::{open_regular, read_bounded};

/// Shows what the frontend makes of a text.
#[derive(Debug, Parser)]
#[command(name = "lap dockerfile")]
struct Args {
    #[command(subcommand)]
    question: Question,
}

#[derive(Debug, Subcommand)]
enum Question {
    /// Parses a Dockerfile and prints the tree
    Parse {
        /// How to print it
        #[arg(long, value_enum, default_value_t)]
        format: TreeFormat,
        /// The file; `-` is standard input
        file: PathBuf,
    },
    /// Resolves and lowers a Dockerfile and prints config, targets and findings
    Inspect {
        /// How to print them
        #[arg(long, value_enum, default_value_t)]
        format: InspectFormat,
        /// Answer every base image with one that has only PATH in its config
        #[arg(long)]
        assume_bases: bool,
        /// Set a build argument
        #[arg(long, value_name = "NAME=VALUE")]
        build_arg: Vec<String>,
        /// The stage to build
        #[arg(long)]
        target: Option<String>,
        /// The file; `-` is standard input
        file: PathBuf,
    },
    /// Answers questions about words: one JSON object a line
    Expand,
    /// Answers questions about ignore patterns: one JSON object a line
    Ignore,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum TreeFormat {
    /// S-expressions, one instruction a line
    #[default]
    Sexp,
    /// The whole tree
    Json,
    /// A Dockerfile that means the same, one line an instruction
    Dockerfile,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum InspectFormat {
    /// Config, targets, findings
    #[default]
    Json,
    /// The graph
    Graph,
    /// The graph for Graphviz
    Dot,
}

/// Runs the command on the words after its name.
pub(super) fn run(arguments: &[String]) -> anyhow::Result<i32> {
    let words = std::iter::once("lap dockerfile").chain(arguments.iter().map(String::as_str));
    let args = match Args::try_parse_from(words) {
        Ok(args) => args,
        Err(error) => {
            error.print()?;
            return Ok(error.exit_code());
        }
    };
    match args.question {
        Question::Parse { format, file } => show_tree(&read(&file)?, format),
        Question::Inspect { format, assume_bases, build_arg, target, file } => {
            let mut options = Options::new(Platform::host());
            options.target = target;
            options.build_args = build_arg.iter().filter_map(|pair| pair.split_once('=')).map(owned).collect();
            inspect(&read(&file)?, &options, assume_bases, format)
        }
        Question::Expand => answer(expand),
        Question::Ignore => answer(matches),
    }
}

/// Bytes of a line on standard input, at most.
const LONGEST_QUESTION: u64 = 64 << 20;

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

fn read(file: &std::path::Path) -> anyhow::Result<Parsed> {
    let bytes = if file.as_os_str() == "-" {
        read_bounded(io::stdin(), "standard input")?
    } else {
        let opened = open_regular(file).with_context(|| format!("cannot open {}", file.display()))?;
        read_bounded(opened, &file.display().to_string())?
    };
    Ok(parse(&file.display().to_string(), bytes))
}

/// Prints faults; the exit code says that there were some.
fn refuse(faults: &[Diagnostic]) -> anyhow::Result<i32> {
    let mut out = io::stderr().lock();
    for fault in faults {
        writeln!(out, "{}", crate::ui::visible(&fault.to_string()))?;
    }
    Ok(1)
}

fn show_tree(parsed: &Parsed, format: TreeFormat) -> anyhow::Result<i32> {
    if parsed.has_errors() {
        return refuse(&parsed.diagnostics);
    }
    let text = match format {
        TreeFormat::Sexp => parsed.dockerfile.to_sexp(),
        TreeFormat::Dockerfile => parsed.dockerfile.to_text().trim_end().to_owned(),
        TreeFormat::Json => serde_json::to_string_pretty(&parsed.dockerfile.instructions)?,
    };
    writeln!(io::stdout().lock(), "{text}")?;
    Ok(0)
}

fn inspect(parsed: &Parsed, options: &Options, assume_bases: bool, format: InspectFormat) -> anyhow::Result<i32> {
    if parsed.has_errors() {
        return refuse(&parsed.diagnostics);
    }
    let stages = match stages(&parsed.dockerfile, options) {
        Ok(stages) => stages,
        Err(faults) => return refuse(&faults),
    };
    let mut facts = Facts::new();
    let everything = Options { all_stages: options.target.is_none(), ..options.clone() };
    for options in [options, &everything].into_iter().filter(|_| assume_bases) {
        if let Err(faults) = assume(&stages, &mut facts, options) {
            return refuse(&faults);
        }
    }
    let lowered = match lower(&stages, &facts, options) {
        Ok(lowered) => lowered,
        Err(faults) => return refuse(&faults),
    };
    let text = match format {
        InspectFormat::Dot => lowered.graph.to_dot(),
        InspectFormat::Graph => serde_json::to_string_pretty(&lowered.graph)?,
        InspectFormat::Json => {
            // Checks look at stages that the target does not need, too.
            let found = check(&stages, &facts, options).unwrap_or(lowered.warnings);
            let findings: Vec<Value> = found.iter().filter_map(finding).collect();
            let answer = json!({
                "config": lowered.image.config.config,
                "history": lowered.image.history.iter().map(|entry| &entry.entry).collect::<Vec<_>>(),
                "targets": targets(&parsed.dockerfile),
                "outline": lowered.outline,
                "lint": findings,
            });
            serde_json::to_string(&answer)?
        }
    };
    writeln!(io::stdout().lock(), "{text}")?;
    Ok(0)
}

/// Makes every base image known.
fn assume(stages: &Stages, facts: &mut Facts, options: &Options) -> Result<(), Vec<Diagnostic>> {
    loop {
        let missing = stages.base_images(facts, options)?;
        if missing.is_empty() {
            return Ok(());
        }
        for image in missing {
            let config = assumed(&image.platform);
            facts.insert(image, config);
        }
    }
}

/// An image of one layer with `PATH` alone in its config.
fn assumed(platform: &Platform) -> ImageConfig {
    let mut config = ImageConfig {
        architecture: platform.architecture.clone(),
        os: platform.os.clone(),
        variant: platform.variant.clone(),
        history: vec![History::default()],
        ..ImageConfig::default()
    };
    config.config.env = vec![format!("PATH={DEFAULT_PATH}")];
    config
}

fn finding(found: &Diagnostic) -> Option<Value> {
    match &found.code {
        Code::Rule(rule) => Some(json!([rule, found.position.line])),
        Code::Syntax | Code::Meaning => None,
    }
}

/// Answers each line of standard input with one of standard output.
fn answer(question: impl Fn(&Value) -> Result<Value, String>) -> anyhow::Result<i32> {
    let mut out = io::stdout().lock();
    let mut input = io::stdin().lock();
    loop {
        let mut line = Vec::new();
        io::Read::take(&mut input, LONGEST_QUESTION + 1)
            .read_until(b'\n', &mut line)
            .context("read a question from standard input")?;
        if line.is_empty() {
            return Ok(0);
        }
        if line.len() as u64 > LONGEST_QUESTION {
            bail!("a question is longer than {} MiB", LONGEST_QUESTION >> 20);
        }
        let asked: Value = serde_json::from_slice(&line)
            .with_context(|| format!("read the question {:?}", String::from_utf8_lossy(&line).trim_end()))?;
        let answer = match question(&asked) {
            Ok(result) => json!({ "result": result }),
            Err(error) => json!({ "error": error }),
        };
        writeln!(out, "{answer}")?;
    }
}

/// Variables of a question.
struct Environment(BTreeMap<String, String>);

impl Lookup for Environment {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().map(|list| list.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
}

/// `{"op": "word" or "words", "word": …, "env": ["NAME=value", …]}`
fn expand(question: &Value) -> Result<Value, String> {
    let pairs = texts(&question["env"]).into_iter().map(|entry| entry.split_once('=').unwrap_or((entry, "")));
    let environment = Environment(pairs.map(owned).collect());
    let word = question["word"].as_str().unwrap_or_default();
    let expanded = Lexer::new('\\').expand(word, &environment).map_err(|error| error.to_string())?;
    Ok(if question["op"] == "words" { json!(expanded.words) } else { json!(expanded.text) })
}

/// `{"patterns": [...], "path": …}`
fn matches(question: &Value) -> Result<Value, String> {
    let lines = texts(&question["patterns"]).join("\n");
    let matcher = Matcher::new(&ignore::parse(&lines)).map_err(|error| error.to_string())?;
    Ok(json!(matcher.matches(question["path"].as_str().unwrap_or_default())))
}
