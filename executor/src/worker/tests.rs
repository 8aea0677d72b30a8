//! Whole builds of file steps, through the solver's driver, against a store on disk.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use lap_solver::drive::{Limits, Solution, SolveError, solve};
use lap_solver::graph::{Builder, Copy, File, FileAction, Graph, Metadata, Mode, Unpack, VertexId};
use lap_solver::pattern::Matcher;

use super::*;
use crate::overlay::View;

struct Bench {
    dir: tempfile::TempDir,
    store: Store,
}

impl Bench {
    /// Nothing where the tests cannot run; prints why.
    fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("SKIPPED: layers are stacked with overlay mounts, which need root");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store"), lap_cache::store::Mode::Root).unwrap();
        fs::create_dir(dir.path().join("context")).unwrap();
        Some(Self { dir, store })
    }

    fn context(&self) -> PathBuf {
        self.dir.path().join("context")
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.context().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn options(&self, ignore: &[&str]) -> Options {
        let context = LocalSource { dir: self.context(), ignore: Matcher::new(ignore).unwrap() };
        Options { contexts: [("context".to_owned(), context)].into(), ..Options::new(self.store.clone()) }
    }

    fn build(
        &self,
        options: Options,
        graph: &Graph,
        target: VertexId,
    ) -> Result<Solution<Output>, SolveError<WorkerError>> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let worker = BuildWorker::new(options);
        let graph = Arc::new(graph.clone());
        let cancelled = std::future::pending();
        let events = Events::none();
        runtime.block_on(solve(graph, &[target], worker.clone(), worker, &events, Limits::default(), cancelled))
    }

    fn view(&self, solution: &Solution<Output>, target: VertexId) -> View {
        let snapshot = solution.outputs[&target].snapshot().unwrap();
        let plan = self.store.overlay(&snapshot.diff_ids(), None).unwrap();
        View::open(&plan, self.store.mode()).unwrap()
    }
}

fn read(view: &View, path: &str) -> Option<String> {
    let tree = Tree::over(view.root().try_clone_to_owned().unwrap(), None, crate::tree::Owners::Kept).unwrap();
    let (at, node) = tree.existing(path.as_bytes()).ok()?;
    std::io::read_to_string(tree.open_file(&at, node).unwrap()).ok()
}

fn context(builder: &mut Builder) -> VertexId {
    builder.add(Op::Source(graph::Source::Local { name: "context".into() }), vec![], Metadata::default())
}

fn copy(source: &str, dest: &str) -> Copy {
    Copy {
        from: Some(0),
        source: source.into(),
        dest: dest.into(),
        owner: None,
        keep_owner: false,
        mode: None,
        wildcard: source.contains('*'),
        unpack: Unpack::No,
        include: vec![],
        exclude: vec![],
        parents: false,
    }
}

/// A step that copies from its first input onto its second one, or onto nothing.
fn step(builder: &mut Builder, from: VertexId, root: Option<VertexId>, copy: Copy) -> VertexId {
    let inputs = std::iter::once(from).chain(root).collect();
    let file = File { root: root.map(|_| 1), actions: vec![FileAction::Copy(copy)] };
    builder.add(Op::File(file), inputs, Metadata::default())
}

#[test]
fn files_are_copied_through_layers_and_stages() {
    let Some(bench) = Bench::new() else { return };
    bench.write("src/a", "one");
    bench.write("src/b", "two");
    bench.write("conf", "three");
    let mut builder = Builder::new();
    let context = context(&mut builder);
    let first = step(&mut builder, context, None, copy("/src", "/app/"));
    let second =
        step(&mut builder, context, Some(first), Copy { mode: Some(Mode::Bits(0o600)), ..copy("/conf", "/app/a") });
    let other = step(&mut builder, second, None, copy("/app/a*", "/copied/"));
    let merged = builder.add(Op::Merge, vec![second, other], Metadata::default());
    let graph = builder.finish();
    let solution = bench.build(bench.options(&[]), &graph, merged).unwrap();

    let view = bench.view(&solution, merged);
    for (path, want) in [("/app/a", "three"), ("/app/b", "two"), ("/copied/a", "three")] {
        assert_eq!(read(&view, path).as_deref(), Some(want), "{path}");
    }
    assert_eq!(solution.outputs[&merged].snapshot().unwrap().layers.len(), 3);
}

#[test]
fn what_is_ignored_cannot_be_copied_and_the_error_says_why() {
    let Some(bench) = Bench::new() else { return };
    bench.write("secret/key", "k");
    bench.write("open", "o");
    symlink("secret/key", bench.context().join("link")).unwrap();
    let build = |source: &str| {
        let mut builder = Builder::new();
        let context = context(&mut builder);
        let target = step(&mut builder, context, None, copy(source, "/x"));
        bench
            .build(bench.options(&["secret"]), &builder.finish(), target)
            .map(|_| ())
            .map_err(|error| error.to_string())
    };
    assert_eq!(build("/open"), Ok(()));
    let excluded = r#""/secret/key": not found: it is there, but excluded by the ignore file (.dockerignore)"#;
    assert_eq!(build("/secret/key"), Err(excluded.into()));
    assert!(build("/link").is_err(), "a link does not lead to what is ignored");
    assert_eq!(build("/none"), Err(r#""/none": not found"#.into()));
}

#[test]
fn a_step_that_changes_nothing_makes_no_layer() {
    let Some(bench) = Bench::new() else { return };
    bench.write("a", "x");
    let mut builder = Builder::new();
    let context = context(&mut builder);
    let first = step(&mut builder, context, None, copy("/a", "/d/a"));
    let mkdir = FileAction::Mkdir { path: "/d".into(), mode: 0o755, owner: None };
    let again = Op::File(File { root: Some(0), actions: vec![mkdir] });
    let again = builder.add(again, vec![first], Metadata::default());
    let none = step(&mut builder, context, Some(again), copy("/nothing*", "/d/"));
    let solution = bench.build(bench.options(&[]), &builder.finish(), none).unwrap();
    assert_eq!(solution.outputs[&none].snapshot().unwrap().layers.len(), 1);
}

/// A tar of one file.
fn archive(path: &str) -> Vec<u8> {
    let text = "packed";
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
    header.set_size(text.len() as u64);
    header.set_mode(0o640);
    header.set_uid(12);
    header.set_gid(34);
    header.set_mtime(1_000_000);
    header.set_cksum();
    let mut archive = tar::Builder::new(Vec::new());
    archive.append(&header, text.as_bytes()).unwrap();
    archive.into_inner().unwrap()
}

#[test]
fn local_archives_are_unpacked_by_their_content() {
    let Some(bench) = Bench::new() else { return };
    fs::write(bench.context().join("no-name"), archive("top/file")).unwrap();
    fs::write(bench.context().join("hostile"), archive("../escape")).unwrap();
    bench.write("plain.tar", "not an archive");
    let mut builder = Builder::new();
    let context = context(&mut builder);
    let add = |source: &str, dest: &str| Copy { unpack: Unpack::IfArchive, ..copy(source, dest) };
    let packed = step(&mut builder, context, None, add("/no-name", "/x/y"));
    let plain = step(&mut builder, context, Some(packed), add("/plain.tar", "/x/y/"));
    let owned = Copy { owner: Some("5:6".into()), ..add("/no-name", "/owned") };
    let owned = step(&mut builder, context, Some(plain), owned);
    let hostile = step(&mut builder, context, None, add("/hostile", "/"));
    let graph = builder.finish();
    let refused = bench.build(bench.options(&[]), &graph, hostile).unwrap_err().to_string();
    assert_eq!(refused, r#"cannot unpack "/hostile""#);
    let solution = bench.build(bench.options(&[]), &graph, owned).unwrap();
    let view = bench.view(&solution, owned);
    assert_eq!(read(&view, "/x/y/top/file").as_deref(), Some("packed"));
    assert_eq!(read(&view, "/x/y/plain.tar").as_deref(), Some("not an archive"));
    let stat = |path: &str| rustix::fs::statat(view.root(), path, rustix::fs::AtFlags::empty()).unwrap();
    let file = stat("x/y/top/file");
    assert_eq!((file.st_uid, file.st_gid, file.st_mode & 0o777, file.st_mtime), (12, 34, 0o640, 1_000_000));
    let file = stat("owned/top/file");
    assert_eq!((file.st_uid, file.st_gid, file.st_mode & 0o777), (5, 6, 0o640));
}

#[test]
fn odd_files_of_a_context_are_copied_or_left_and_never_block() {
    let Some(bench) = Bench::new() else { return };
    bench.write("d/plain", "x");
    let pipe = bench.context().join("d/pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::from_raw_mode(0o640)).unwrap();
    fs::set_permissions(&pipe, fs::Permissions::from_mode(0o640)).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(bench.context().join("d/socket")).unwrap();
    fs::write(bench.context().join(Path::new("d/new\nline")), "n").unwrap();
    let mut builder = Builder::new();
    let context = context(&mut builder);
    let target = step(&mut builder, context, None, copy("/d", "/t"));
    let solution = bench.build(bench.options(&[]), &builder.finish(), target).unwrap();
    let view = bench.view(&solution, target);
    assert_eq!(read(&view, "/t/plain").as_deref(), Some("x"));
    assert_eq!(read(&view, "/t/new\nline").as_deref(), Some("n"));
    let stat = rustix::fs::statat(view.root(), "t/pipe", rustix::fs::AtFlags::empty()).unwrap();
    assert_eq!(rustix::fs::FileType::from_raw_mode(stat.st_mode), rustix::fs::FileType::Fifo);
    assert_eq!(stat.st_mode & 0o777, 0o640);
    assert!(rustix::fs::statat(view.root(), "t/socket", rustix::fs::AtFlags::empty()).is_err());
}

#[test]
fn a_second_build_does_nothing_and_a_change_only_what_depends_on_it() {
    let Some(bench) = Bench::new() else { return };
    bench.write("src/a", "one");
    bench.write("other", "x");
    let mut builder = Builder::new();
    let context = context(&mut builder);
    let src = step(&mut builder, context, None, copy("/src", "/app/"));
    let other = step(&mut builder, context, Some(src), copy("/other", "/app/"));
    let from = step(&mut builder, other, None, copy("/app/a", "/b/"));
    let target = builder.add(Op::Merge, vec![other, from], Metadata::default());
    let graph = builder.finish();
    let build = || {
        let solution = bench.build(bench.options(&["*.tmp"]), &graph, target).unwrap();
        let snapshot = solution.outputs[&target].snapshot().unwrap().clone();
        let ran: Vec<_> = [src, other, from].into_iter().filter(|step| !solution.cached.contains(step)).collect();
        (snapshot, ran)
    };
    let (first, ran) = build();
    assert_eq!(ran, [src, other, from]);
    assert_eq!(build(), (first.clone(), vec![]));

    bench.write("ignored.tmp", "y");
    fs::File::open(bench.context().join("src/a")).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(build(), (first.clone(), vec![]), "neither what is ignored nor times matter");

    bench.write("other", "changed");
    let (changed, ran) = build();
    assert_eq!(ran, [other], "the copied path of the stage is the same");
    assert_eq!(changed.layers[0], first.layers[0]);
    assert_ne!(changed.layers[1], first.layers[1]);

    bench.write("other", "x");
    bench.write("src/b", "new");
    let (_, ran) = build();
    assert_eq!(ran, [src, other], "of the stage only /app/a is copied, and that is as before");
}

#[test]
fn a_context_that_changes_meanwhile_gives_a_whole_layer_or_an_error() {
    let Some(bench) = Bench::new() else { return };
    let stop = Arc::new(AtomicBool::new(false));
    let mutate = |dir: PathBuf, stop: Arc<AtomicBool>| {
        let mut state = 1_u64;
        while !stop.load(Ordering::Relaxed) {
            std::thread::sleep(std::time::Duration::from_millis(state % 8));
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let path = dir.join(format!("d/{}", (state >> 33) % 40));
            drop(fs::remove_file(&path).or_else(|_| fs::remove_dir(&path)));
            match (state >> 50) % 6 {
                0 => drop(symlink("/etc/passwd", &path)),
                1 => drop(rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU)),
                2 => drop(fs::create_dir(&path)),
                _ => drop(fs::write(&path, vec![b'x'; (state >> 40) as usize % 200_000])),
            }
        }
    };
    fs::create_dir(bench.context().join("d")).unwrap();
    let thread = std::thread::spawn({
        let (dir, stop) = (bench.context(), Arc::clone(&stop));
        move || mutate(dir, stop)
    });
    let mut outcomes = (0, 0);
    for _ in 0..40 {
        let mut builder = Builder::new();
        let context = context(&mut builder);
        let target = step(&mut builder, context, None, copy("/d", "/t"));
        match bench.build(bench.options(&[]), &builder.finish(), target) {
            Ok(_) => outcomes.0 += 1,
            Err(SolveError::Step {
                error: WorkerError::Tree(error) | WorkerError::File(op::file::FileError::Source(error)),
                ..
            }) if error.to_string().ends_with("changed while reading") => {
                outcomes.1 += 1;
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    stop.store(true, Ordering::Relaxed);
    thread.join().unwrap();
    println!("whole: {}, changed while reading: {}", outcomes.0, outcomes.1);
}
