#![no_main]
//! Any Dockerfile resolves and lowers to steps, or to faults. The first line may hold triggers of the base.

use lap_frontend::{Facts, Options, check, lower, parse, stages};
use lap_solver::image::{History, ImageConfig};
use lap_solver::platform::Platform;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let split = data.iter().position(|byte| *byte == 0).unwrap_or(0);
    let (trigger, text) = data.split_at(split);
    let parsed = parse("Dockerfile", text);
    let mut options = Options::new(Platform { os: "linux".into(), architecture: "amd64".into(), variant: None });
    options.build_args.insert("G".into(), "given".into());
    options.ignore = Some(vec!["a".into(), "**/b".into()]);
    let Ok(stages) = stages(&parsed.dockerfile, &options) else { return };
    let mut facts = Facts::new();
    for _ in 0..4 {
        let Ok(missing) = stages.base_images(&facts, &options) else { return };
        for image in missing {
            let mut config = ImageConfig { history: vec![History::default()], ..ImageConfig::default() };
            config.config.on_build = vec![String::from_utf8_lossy(trigger).into_owned()];
            config.config.on_build.retain(|trigger| !trigger.is_empty());
            facts.insert(image, config);
        }
    }
    if let Ok(lowered) = lower(&stages, &facts, &options) {
        let (_dot, _svg) = (lowered.graph.to_dot(), lowered.graph.to_svg());
        let again = lower(&stages, &facts, &options).expect("it was lowered before");
        assert_eq!(lowered.graph, again.graph);
    }
    drop(check(&stages, &facts, &options));
});
