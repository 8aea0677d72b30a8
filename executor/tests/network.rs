//! The bridge network against a real kernel. Each test makes its own "host": a network namespace of the test's thread, so
//! the machine's own network is never touched. Needs root and the `ip` program (iproute2); skipped with a reason else.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a test says why it skips and may panic anywhere")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lap_executor::network::{self, Network};
use nix::sched::{CloneFlags, setns, unshare};

const HELPER: &str = "LAP_TEST_NETWORK_RUN_DIR";

/// Runs the test on a thread in a new namespace, which plays the host.
fn on_a_host(test: impl FnOnce() + Send + 'static) {
    if !nix::unistd::geteuid().is_root() {
        println!("SKIPPED: making network namespaces needs root");
        return;
    }
    if Command::new("ip").arg("-V").output().is_err() {
        println!("SKIPPED: no `ip` program");
        return;
    }
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        ip("link set lo up");
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

fn listing(program: &str, arguments: &str) -> String {
    let output = Command::new(program).args(arguments.split(' ')).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Everything a network could leave behind on its host.
fn host_state() -> String {
    let settings = ["all", "default", "lo", "out0"]
        .map(|link| std::fs::read_to_string(format!("/proc/sys/net/ipv4/conf/{link}/forwarding")).unwrap_or_default());
    let rules =
        if Command::new("nft").arg("-v").output().is_ok() { listing("nft", "list ruleset") } else { String::new() };
    let links = listing("ip", "-br link");
    let links: Vec<_> = links.lines().filter_map(|line| line.split_whitespace().next()).collect();
    format!(
        "{links:?}\n{}\n{}\n{settings:?}\n{rules}",
        listing("ip", "-o -4 addr"),
        listing("ip", "-4 route show table all")
    )
}

fn inside<T: Send>(namespace: impl AsFd + Send + Sync, run: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            run()
        });
        thread.join().unwrap()
    })
}

/// A neighbour of the host with its own namespace: 198.51.100.2, with no route back to any bridge.
fn outside_world() -> OwnedFd {
    let namespace = network::loopback_only().unwrap();
    let mut holder = inside(&namespace, || Command::new("sleep").arg("60").spawn().unwrap());
    ip(&format!("link add out0 type veth peer name out1 netns {}", holder.id()));
    holder.kill().unwrap();
    holder.wait().unwrap();
    inside(&namespace, || {
        ip("addr add 198.51.100.2/24 dev out1");
        ip("link set out1 up");
    });
    ip("addr add 198.51.100.1/24 dev out0");
    ip("link set out0 mtu 1400 up");
    ip("route add default via 198.51.100.2");
    namespace
}

/// Answers one connection with the address it came from.
fn serve_once(listener: &TcpListener) -> Ipv4Addr {
    let (mut stream, peer) = listener.accept().unwrap();
    stream.write_all(b"hello").unwrap();
    match peer.ip() {
        std::net::IpAddr::V4(address) => address,
        std::net::IpAddr::V6(address) => panic!("{address}"),
    }
}

fn fetch(address: Ipv4Addr, port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&(address, port).into(), Duration::from_secs(3))?;
    stream.set_read_timeout(Some(Duration::from_secs(3)))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// Connects from one place to a server in another; returns the client's address as the server saw it.
fn connect(server: impl AsFd + Send + Sync, address: Ipv4Addr, client: impl AsFd + Send + Sync) -> Ipv4Addr {
    let listener = inside(server, || TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap());
    let port = listener.local_addr().unwrap().port();
    std::thread::scope(|scope| {
        let serving = scope.spawn(|| serve_once(&listener));
        assert_eq!(inside(client, || fetch(address, port)).unwrap(), "hello");
        serving.join().unwrap()
    })
}

fn own_namespace() -> OwnedFd {
    std::fs::File::open("/proc/thread-self/ns/net").unwrap().into()
}

#[test]
fn two_sandboxes_reach_the_host_each_other_and_the_world_and_nothing_remains() {
    on_a_host(|| {
        let (directory, world) = (tempfile::tempdir().unwrap(), outside_world());
        let before = host_state();
        let network = Network::open(directory.path()).unwrap();
        assert_eq!(host_state(), before, "opening makes nothing");
        network.prepare();
        let (first, second) = (network.attach().unwrap(), network.attach().unwrap());
        assert_ne!(first.address(), second.address());
        assert_eq!(network.notices(), []);
        let host = own_namespace();
        let ports = listing("bridge", "link");
        assert!(ports.lines().count() >= 2 && ports.lines().all(|port| port.contains("state forwarding")), "{ports}");
        assert_eq!(connect(&host, first.gateway(), first.namespace()), first.address());
        assert_eq!(connect(second.namespace(), second.address(), first.namespace()), first.address());
        assert_eq!(connect(first.namespace(), first.address(), &host), first.gateway());
        let world_address = Ipv4Addr::new(198, 51, 100, 2);
        assert_eq!(connect(&world, world_address, second.namespace()), Ipv4Addr::new(198, 51, 100, 1), "masqueraded");
        let seen = inside(first.namespace(), || listing("ip", "-o link") + &listing("ip", "-o addr"));
        assert!(seen.contains("eth0") && seen.contains("mtu 1400"), "{seen}");
        assert!(!seen.contains("fe80:"), "no IPv6 yet: {seen}");
        drop(first);
        drop(network);
        assert_ne!(host_state(), before, "the second still uses it");
        assert_eq!(connect(&world, world_address, second.namespace()), Ipv4Addr::new(198, 51, 100, 1));
        drop(second);
        assert_eq!(host_state(), before);
        // And once more: a handle's end is nobody's end.
        let again = Network::open(directory.path()).unwrap();
        drop(again.attach().unwrap());
        drop(again);
        assert_eq!(host_state(), before);
    });
}

#[test]
fn the_world_cannot_open_connections_into_the_bridge() {
    on_a_host(|| {
        let (directory, world) = (tempfile::tempdir().unwrap(), outside_world());
        let network = Network::open(directory.path()).unwrap();
        let attachment = network.attach().unwrap();
        inside(&world, || ip(&format!("route add {} via 198.51.100.1", attachment.subnet())));
        let listener = inside(attachment.namespace(), || TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap());
        let port = listener.local_addr().unwrap().port();
        let error = inside(&world, || fetch(attachment.address(), port)).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut, "{error}");
    });
}

#[test]
fn only_loopback_is_up_without_a_network() {
    on_a_host(|| {
        let namespace = network::loopback_only().unwrap();
        let links = inside(&namespace, || listing("ip", "-o link show up"));
        assert_eq!(links.lines().count(), 1, "{links}");
        assert!(links.contains(" lo: "), "{links}");
        connect(&namespace, Ipv4Addr::LOCALHOST, &namespace);
        let read = |name| std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap();
        assert_eq!(inside(&namespace, || read("ip_unprivileged_port_start")).trim(), "0");
    });
}

#[test]
fn run_directories_share_a_host() {
    on_a_host(|| {
        let _world = outside_world();
        let before = host_state();
        let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [first, second] = directories.each_ref().map(|directory| Network::open(directory.path()).unwrap());
        let (one, two) = (first.attach().unwrap(), second.attach().unwrap());
        assert_ne!(one.subnet(), two.subnet());
        drop((one, first));
        // The first switched forwarding on; it must not switch it off under the second.
        let world = Ipv4Addr::new(198, 51, 100, 2);
        assert!(inside(two.namespace(), || ping(world)));
        drop((two, second));
        assert_eq!(host_state(), before);
    });
}

/// Whether the address refuses a connection, which it can do only if packets go there and back.
fn ping(address: Ipv4Addr) -> bool {
    fetch(address, 9).is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
}

#[test]
fn another_firewall_that_drops_is_passed_and_left_as_it_was() {
    on_a_host(|| {
        if Command::new("nft").arg("-v").output().is_err() {
            println!("SKIPPED: no `nft` program to play another firewall");
            return;
        }
        let (directory, _world) = (tempfile::tempdir().unwrap(), outside_world());
        for rules in [
            "add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }; \
             add chain ip filter DOCKER-USER; add rule ip filter FORWARD jump DOCKER-USER",
            "delete table ip filter; add table inet own; \
             add chain inet own forward { type filter hook forward priority 10; policy drop; }",
        ] {
            assert!(Command::new("nft").arg(rules).status().unwrap().success());
            let before = host_state();
            let network = Network::open(directory.path()).unwrap();
            let attachment = network.attach().unwrap();
            assert!(inside(attachment.namespace(), || ping(Ipv4Addr::new(198, 51, 100, 2))));
            drop((attachment, network));
            assert_eq!(host_state(), before);
        }
    });
}

/// Not a test by itself, and nothing unless another test asks: the other process of the tests below. Attaches, says its address, lives until its input ends.
#[test]
fn helper() {
    let Some(directory) = std::env::var_os(HELPER) else { return };
    let network = Network::open(Path::new(&directory)).unwrap();
    let attachment = network.attach().unwrap();
    println!("\naddress {}", attachment.address());
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

struct Helper {
    process: Child,
    address: Ipv4Addr,
    _output: Box<dyn Read>,
}

fn helper_command(directory: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "helper", "--nocapture"]).env(HELPER, directory);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// Starts that many helpers at once and waits until all are attached.
fn start_helpers(count: usize, directory: &Path) -> Vec<Helper> {
    let processes: Vec<_> = (0..count).map(|_| helper_command(directory).spawn().unwrap()).collect();
    processes.into_iter().map(wait_for_address).collect()
}

fn wait_for_address(mut process: Child) -> Helper {
    let mut output = BufReader::new(process.stdout.take().unwrap());
    loop {
        let mut line = String::new();
        assert_ne!(output.read_line(&mut line).unwrap(), 0, "the helper attached");
        if let Some(address) = line.trim().strip_prefix("address ").and_then(|text| text.parse().ok()) {
            return Helper { process, address, _output: Box::new(output) };
        }
    }
}

impl Helper {
    fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

#[test]
fn what_killed_processes_leave_is_reclaimed() {
    on_a_host(|| {
        let (directory, _world) = (tempfile::tempdir().unwrap(), outside_world());
        let before = host_state();
        let mut helpers = start_helpers(3, directory.path());
        let addresses: std::collections::BTreeSet<_> = helpers.iter().map(|helper| helper.address).collect();
        assert_eq!(addresses.len(), 3, "concurrent processes get different addresses");
        helpers.remove(0).kill();
        network::reclaim(directory.path()).unwrap();
        assert_ne!(host_state(), before, "the others still use it");
        helpers.into_iter().for_each(Helper::kill);
        assert_ne!(host_state(), before, "nobody was there to clean up");
        network::reclaim(directory.path()).unwrap();
        assert_eq!(host_state(), before);
    });
}

#[test]
fn death_at_any_moment_leaves_what_can_be_reclaimed() {
    on_a_host(|| {
        let (directory, world) = (tempfile::tempdir().unwrap(), outside_world());
        let before = host_state();
        // The program of a test takes its time to start; begin to kill when the first traces of work are there.
        for moment in 0..16 {
            let mut process = helper_command(directory.path()).spawn().unwrap();
            let begin = Instant::now();
            while std::fs::read_dir(directory.path().join("network")).is_err() && begin.elapsed().as_secs() < 5 {
                std::thread::yield_now();
            }
            std::thread::sleep(Duration::from_micros(moment * 1200));
            process.kill().unwrap();
            process.wait().unwrap();
            if moment % 2 == 0 {
                network::reclaim(directory.path()).unwrap();
                assert_eq!(host_state(), before, "killed at moment {moment}");
            } else {
                let network = Network::open(directory.path()).unwrap();
                let attachment = network.attach().unwrap();
                connect(&world, Ipv4Addr::new(198, 51, 100, 2), attachment.namespace());
            }
            std::fs::remove_dir_all(directory.path().join("network")).unwrap();
            assert_eq!(host_state(), before, "killed at moment {moment}");
        }
    });
}

#[test]
fn a_handle_that_let_go_can_be_used_again() {
    on_a_host(|| {
        let (directory, world) = (tempfile::tempdir().unwrap(), outside_world());
        let before = host_state();
        let network = Network::open(directory.path()).unwrap();
        network.prepare();
        let first = network.attach().unwrap();
        network.prepare();
        network.let_go();
        connect(&world, Ipv4Addr::new(198, 51, 100, 2), first.namespace());
        drop(first);
        assert_eq!(host_state(), before, "the last one took everything along");
        let again = network.attach().unwrap();
        connect(&world, Ipv4Addr::new(198, 51, 100, 2), again.namespace());
        network.let_go();
        network.let_go();
        drop((again, network));
        assert_eq!(host_state(), before);
    });
}

#[test]
fn a_run_directory_that_vanished_leaves_nothing_behind() {
    on_a_host(|| {
        let (directory, _world) = (tempfile::tempdir().unwrap(), outside_world());
        let before = host_state();
        let [first, second] = [(), ()].map(|()| Network::open(directory.path()).unwrap());
        let (one, two) = (first.attach().unwrap(), second.attach().unwrap());
        std::fs::remove_dir_all(directory.path()).unwrap();
        drop((one, first));
        assert!(inside(two.namespace(), || ping(Ipv4Addr::new(198, 51, 100, 2))), "the other one still needs it");
        drop((two, second));
        assert_eq!(host_state(), before);
    });
}

#[test]
fn flushed_rules_come_back() {
    on_a_host(|| {
        if Command::new("nft").arg("-v").output().is_err() {
            println!("SKIPPED: no `nft` program to flush rules with");
            return;
        }
        let (directory, world) = (tempfile::tempdir().unwrap(), outside_world());
        let before = host_state();
        let network = Network::open(directory.path()).unwrap();
        let first = network.attach().unwrap();
        assert!(Command::new("nft").args(["flush", "ruleset"]).status().unwrap().success());
        let second = network.attach().unwrap();
        for attachment in [&first, &second] {
            connect(&world, Ipv4Addr::new(198, 51, 100, 2), attachment.namespace());
        }
        drop((first, second, network));
        assert_eq!(host_state(), before);
    });
}

#[test]
fn processes_come_and_go_at_once() {
    on_a_host(|| {
        let (directory, _world) = (tempfile::tempdir().unwrap(), outside_world());
        let before = host_state();
        for _ in 0..3 {
            let mut helpers = start_helpers(6, directory.path());
            helpers.iter_mut().for_each(|helper| drop(helper.process.stdin.take()));
            assert!(helpers.iter_mut().all(|helper| helper.process.wait().unwrap().success()));
            assert_eq!(host_state(), before);
        }
    });
}

#[test]
fn a_lease_outlives_its_taker_when_handed_over() {
    on_a_host(|| {
        let (directory, world) = (tempfile::tempdir().unwrap(), outside_world());
        let before = host_state();
        let mut heir = Command::new("sleep").arg("60").spawn().unwrap();
        let network = Network::open(directory.path()).unwrap();
        let attachment = network.attach().unwrap();
        let address = attachment.address();
        let namespace = attachment.hand_over(heir.id().cast_signed()).unwrap();
        assert!(network.adopt(address).is_err(), "it is the heir's");
        drop(network);
        network::reclaim(directory.path()).unwrap();
        connect(&world, Ipv4Addr::new(198, 51, 100, 2), &namespace);
        heir.kill().unwrap();
        heir.wait().unwrap();
        network::reclaim(directory.path()).unwrap();
        assert_eq!(host_state(), before);
    });
}

#[test]
fn many_are_attached_at_once_and_times_are_told() {
    on_a_host(|| {
        let (directory, _world) = (tempfile::tempdir().unwrap(), outside_world());
        let before = host_state();
        let network = Network::open(directory.path()).unwrap();
        let time = |what: &str, begin: Instant| println!("{what}: {:.2} ms", begin.elapsed().as_secs_f64() * 1e3);
        let begin = Instant::now();
        let first = network.attach().unwrap();
        time("first attach, with bridge and rules", begin);
        for _ in 0..3 {
            let begin = Instant::now();
            let attachment = network.attach().unwrap();
            time("attach", begin);
            network.prepare();
            std::thread::sleep(Duration::from_millis(100));
            let begin = Instant::now();
            let prepared = network.attach().unwrap();
            time("attach, prepared", begin);
            let begin = Instant::now();
            drop((attachment, prepared));
            time("drop", begin);
        }
        let begin = Instant::now();
        let many = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..20).map(|_| scope.spawn(|| network.attach().unwrap())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        time("20 at once", begin);
        let begin = Instant::now();
        drop((many, first, network));
        time("end of all", begin);
        assert_eq!(host_state(), before);
        let begin = Instant::now();
        drop(network::loopback_only().unwrap());
        time("only loopback", begin);
    });
}
