//! `login` and `logout`: Debian's docker-registry with passwords and with tokens, helpers, the files of others.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::support::{Lap, Said, needs, run, wait_for};

const USER: &str = "user";
const PASSWORD: &str = "pa:ss w0rd";
/// What stands for the login at the token server.
const REFRESH: &str = "refresh-me-7f3a";
/// `htpasswd -nbB user 'pa:ss w0rd'`
const HTPASSWD: &str = "user:$2y$05$Dk3MvH5gQyVN0bu5sWZf0OxM4.ihdehWGGAn4GjliuW80xOYWB2wq";

/// docker-registry which lets in who has a login.
pub(crate) struct Guarded {
    child: Child,
    pub(crate) address: String,
    _dir: tempfile::TempDir,
}

impl Guarded {
    /// With `more` YAML at the end of its configuration.
    pub(crate) fn start(dir: tempfile::TempDir, more: &str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let data = dir.path().join("data");
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp:\n  addr: \"{address}\"\n{more}",
            data.display()
        );
        let file = dir.path().join("config.yml");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new("docker-registry");
        let child = command.arg("serve").arg(file).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let registry = Self { child, address, _dir: dir };
        wait_for("the registry", || TcpStream::connect(&registry.address).is_ok());
        registry
    }

    /// With a token server beside it.
    fn with_tokens() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (key, certificate) = (dir.path().join("key.pem"), dir.path().join("cert.pem"));
        let make = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=tokens"];
        let files = ["-keyout", key.to_str().unwrap(), "-out", certificate.to_str().unwrap()];
        run("openssl", &[&make[..], &files].concat()).ok();
        let realm = token_server(dir.path());
        let auth = format!(
            "auth:\n  token:\n    realm: {realm}\n    service: store\n    issuer: tokens\n    rootcertbundle: {}\n",
            certificate.display()
        );
        Self::start(dir, &auth)
    }

    /// With a file of names and passwords.
    pub(crate) fn with_passwords() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("htpasswd");
        std::fs::write(&file, format!("{HTPASSWD}\n")).unwrap();
        let auth = format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", file.display());
        Self::start(dir, &auth)
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Lap {
    /// Runs `lap` with its own home and this input.
    fn at_home(&self, args: &[&str], input: &str) -> Said {
        let mut command = self.command();
        command.env("HOME", self.path("home")).env_remove("DOCKER_CONFIG").env_remove("REGISTRY_AUTH_FILE");
        command.env_remove("XDG_RUNTIME_DIR").env_remove("XDG_CONFIG_HOME");
        command.env("PATH", format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap()));
        let mut child =
            command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // A command that does not read its input is fine.
        drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
        let output = child.wait_with_output().unwrap();
        Said {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    fn login(&self, registry: &str, password: &str) -> Said {
        self.at_home(&["login", "-u", USER, "--password-stdin", registry], &format!("{password}\n"))
    }

    fn config_json(&self) -> PathBuf {
        self.path("home/.docker/config.json")
    }
}

#[test]
fn a_password_opens_the_registry_and_logout_closes_it() {
    needs!(root);
    needs!("docker-registry");
    needs!("skopeo");
    needs!("podman");
    let registry = Guarded::with_passwords();
    let address = registry.address.as_str();
    let lap = Lap::new();
    let name = format!("{address}/team/app:1");
    lap.run(&["tag", "busybox", &name]).ok();
    let refused = lap.at_home(&["push", &name], "").code(1);
    assert!(refused.err.contains("refuses access"), "{}", refused.err);

    let wrong = lap.login(address, "wrong").code(1);
    assert!(wrong.err.contains("refuses the login") && wrong.err.contains("try:"), "{}", wrong.err);
    assert!(!lap.config_json().exists(), "a login that is refused is not kept");
    let said = lap.login(&format!("http://{address}/v2/"), PASSWORD).ok();
    assert_eq!(said.out, "Login Succeeded\n");
    assert!(said.err.contains("unencrypted"), "{}", said.err);
    let mode = std::fs::metadata(lap.config_json()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(lap.at_home(&["login", "--get-login", address], "").ok().out, "user\n");
    assert!(lap.at_home(&["login", address], "").ok().err.contains("existing credentials"));
    lap.at_home(&["push", &name], "").ok();
    lap.run(&["rmi", &name]).ok();
    lap.at_home(&["pull", &name], "").ok();

    // What we wrote, others read.
    let file = lap.config_json();
    let file = file.to_str().unwrap();
    run("skopeo", &["inspect", "--authfile", file, "--tls-verify=false", &format!("docker://{name}")]).ok();
    assert_eq!(run("podman", &["login", "--get-login", "--authfile", file, address]).ok().out, "user\n");
    // And the other way round.
    let theirs = lap.path("auth.json");
    let theirs = theirs.to_str().unwrap();
    let args = ["login", "--authfile", theirs, "--tls-verify=false", "-u", USER, "-p", PASSWORD, address];
    run("skopeo", &args).ok();

    assert_eq!(lap.at_home(&["logout", address], "").ok().out, format!("Removing login credentials for {address}\n"));
    assert_eq!(lap.at_home(&["logout", address], "").ok().out, format!("Not logged in to {address}\n"));
    lap.at_home(&["pull", &name], "").code(1);
    let mut command = lap.command();
    let pulled = command.env("REGISTRY_AUTH_FILE", theirs).args(["pull", "-q", &name]).output().unwrap();
    assert!(pulled.status.success(), "{}", String::from_utf8_lossy(&pulled.stderr));
    assert_eq!(lap.at_home(&["login", "--get-login", "--authfile", theirs, address], "").ok().out, "user\n");
    assert!(lap.at_home(&["logout", "--all", "--authfile", theirs], "").ok().out.contains(address));
    let left = std::fs::read_to_string(theirs).unwrap();
    assert!(!left.contains(address), "{left}");

    for (args, message) in [
        (&["login", address][..], "nobody is there to ask"),
        (&["login", "-u", USER, address], "nobody is there to ask"),
        (&["login", "-u", USER, "-p", "x", "no registry"], "is no registry"),
        (&["login", "-u", USER, "--password-stdin", address], "no password"),
        (&["login", "--get-login", address], "not logged in"),
    ] {
        let error = lap.at_home(args, "").code(1).err;
        assert!(error.contains(message), "{args:?}: {error}");
    }
}

#[test]
fn a_helper_keeps_the_password() {
    needs!("docker-registry");
    let registry = Guarded::with_passwords();
    let address = registry.address.as_str();
    let lap = Lap::empty();
    let vault = lap.path("vault");
    std::fs::create_dir(&vault).unwrap();
    let script = format!(
        "#!/bin/sh\ncd {} || exit 1\ncase $1 in\nstore) cat > entry ;;\nget) test -f entry || {{ echo 'credentials not found in native keychain'; exit 1; }}; cat entry ;;\nerase) rm entry ;;\nlist) test -f entry && echo '{{\"{address}\":\"user\"}}' || echo '{{}}' ;;\nesac\n",
        vault.display()
    );
    let helper = lap.write("bin/docker-credential-vault", script);
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
    lap.write("home/.docker/config.json", r#"{"credsStore":"vault","HttpHeaders":{"X":"y"}}"#);
    let said = lap.login(address, PASSWORD).ok();
    assert!(!said.err.contains("unencrypted"), "{}", said.err);
    let file = std::fs::read_to_string(lap.config_json()).unwrap();
    assert!(!file.contains("auth\"") && file.contains("HttpHeaders") && file.contains(address), "{file}");
    let entry = std::fs::read_to_string(vault.join("entry")).unwrap();
    assert!(entry.contains(PASSWORD) && entry.contains("ServerURL"), "{entry}");
    assert_eq!(lap.at_home(&["login", "--get-login", address], "").ok().out, "user\n");
    lap.at_home(&["logout", "--all"], "").ok();
    assert!(!vault.join("entry").exists());
    lap.at_home(&["login", "--get-login", address], "").code(1);
}

#[test]
fn a_token_server_takes_the_login() {
    needs!(root);
    needs!("docker-registry");
    needs!("openssl");
    let registry = Guarded::with_tokens();
    let address = registry.address.as_str();
    let lap = Lap::new();
    let name = format!("{address}/team/app:1");
    lap.run(&["tag", "busybox", &name]).ok();
    lap.at_home(&["push", &name], "").code(1);
    let wrong = lap.login(address, "wrong").code(1);
    assert!(wrong.err.contains("refuses the login"), "{}", wrong.err);
    lap.login(address, PASSWORD).ok();
    lap.at_home(&["push", &name], "").ok();
    lap.run(&["rmi", &name]).ok();
    lap.at_home(&["pull", &name], "").ok();
    assert!(!lap.at_home(&["push", "--progress", "plain", &name], "").ok().err.contains(PASSWORD));
}

#[test]
fn an_identity_token_is_exchanged_and_never_told() {
    needs!(root);
    needs!("docker-registry");
    needs!("openssl");
    let registry = Guarded::with_tokens();
    let address = registry.address.as_str();
    let lap = Lap::new();
    let name = format!("{address}/team/app:1");
    lap.run(&["tag", "busybox", &name]).ok();
    // A helper marks it by the name of its user.
    let helper = |secret: &str| {
        let script = format!(
            "#!/bin/sh\ncat > /dev/null\necho '{{\"ServerURL\":\"{address}\",\"Username\":\"<token>\",\"Secret\":\"{secret}\"}}'\n"
        );
        let helper = lap.write("bin/docker-credential-vault", script);
        std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    let quiet = |said: Said| {
        assert!(!said.err.contains(REFRESH) && !said.out.contains(REFRESH), "{said:?}");
        said
    };
    let of_helper = format!(r#"{{"credHelpers":{{"{address}":"vault"}}}}"#);
    lap.write("home/.docker/config.json", &of_helper);
    helper("another");
    let refused = quiet(lap.at_home(&["push", &name], "").code(1));
    assert!(refused.err.contains("refuses the login") && !refused.err.contains("another"), "{}", refused.err);
    helper(REFRESH);
    quiet(lap.at_home(&["push", "--progress", "plain", &name], "").ok());
    lap.run(&["rmi", &name]).ok();
    // A file has it as a field of its own.
    lap.write(
        "home/.docker/config.json",
        format!(r#"{{"auths":{{"{address}":{{"auth":"dXNlcjo=","identitytoken":"{REFRESH}"}}}}}}"#),
    );
    quiet(lap.at_home(&["pull", &name], "").ok());
    quiet(lap.at_home(&["pull", &format!("{address}/team/app:none")], "").code(1));
}

#[test]
fn certificates_of_a_registry_are_those_of_its_directory() {
    needs!(root);
    needs!("docker-registry");
    needs!("openssl");
    needs!("skopeo");
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let openssl = |args: &[&str]| run("openssl", args).ok();
    for name in ["ca", "stranger"] {
        let subject = format!("/CN={name}");
        let files = ["-keyout", &file(&format!("{name}.key")), "-out", &file(&format!("{name}.crt"))];
        let make = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", &subject];
        openssl(&[&make[..], &files].concat());
    }
    std::fs::write(dir.path().join("names"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    for (name, authority) in [("server", "ca"), ("client", "ca"), ("other", "stranger")] {
        let subject = format!("/CN={name}");
        let (key, request) = (file(&format!("{name}.key")), file(&format!("{name}.csr")));
        openssl(&["req", "-newkey", "rsa:2048", "-nodes", "-subj", &subject, "-keyout", &key, "-out", &request]);
        let (authority, secret) = (file(&format!("{authority}.crt")), file(&format!("{authority}.key")));
        let signer = ["-CA", &authority, "-CAkey", &secret, "-CAcreateserial", "-days", "2"];
        let files = ["-in", &request, "-out", &file(&format!("{name}.cert")), "-extfile", &file("names")];
        openssl(&[&["x509", "-req"][..], &signer, &files].concat());
    }
    let (ca, stranger, own, key) = (file("ca.crt"), file("stranger.crt"), file("client.cert"), file("client.key"));
    let (other, other_key) = (file("other.cert"), file("other.key"));
    let tls = format!(
        "  tls:\n    certificate: {}\n    key: {}\n    clientcas: [{ca}]\n",
        file("server.cert"),
        file("server.key")
    );
    let registry = Guarded::start(dir, &tls);
    let lap = Lap::new();
    let name = format!("{}/team/app:1", registry.address);
    lap.run(&["tag", "busybox", &name]).ok();
    let push = || lap.at_home(&["push", &name], "");
    let there = lap.path(&format!("home/.config/containers/certs.d/{}", registry.address));
    let put = |from: &str, to: &str| assert!(std::fs::copy(from, there.join(to)).unwrap() > 0);

    push().code(1);
    std::fs::create_dir_all(&there).unwrap();
    put(&stranger, "ca.crt");
    put(&own, "client.cert");
    assert!(push().code(1).err.contains("client.key is missing"));
    put(&key, "client.key");
    let error = push().code(1).err;
    assert!(error.contains("certificate"), "an authority that is given is asked, on loopback too: {error}");
    put(&ca, "ca.crt");
    push().ok();
    // Of several, the one that the registry asks for is shown, whatever it is called.
    put(&other, "a.cert");
    put(&other_key, "a.key");
    push().ok();
    std::fs::remove_file(there.join("client.cert")).unwrap();
    std::fs::remove_file(there.join("client.key")).unwrap();
    push().code(1);
    put(&own, "z.cert");
    put(&key, "z.key");
    lap.run(&["rmi", &name]).ok();
    lap.at_home(&["pull", &name], "").ok();
    let there = there.to_str().unwrap();
    run("skopeo", &["inspect", "--cert-dir", there, &format!("docker://{name}")]).ok();
    // A copy is told where they are.
    let (from, to) = (format!("docker://{name}"), format!("docker://{}/copy:1", registry.address));
    lap.run(&["copy", "-q", &from, &to]).code(1);
    lap.run(&["copy", "-q", "--src-cert-dir", there, &from, &to]).code(1);
    lap.run(&["copy", "-q", "--src-cert-dir", there, "--dest-cert-dir", there, &from, &to]).ok();
}

/// Signs tokens for who knows the password, as the distribution's token specification wants them; its address.
fn token_server(dir: &Path) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let realm = format!("http://{}/token", listener.local_addr().unwrap());
    let dir = dir.to_path_buf();
    let expected = format!("Basic {}", base64(format!("{USER}:{PASSWORD}").as_bytes(), false));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut lines = reader.by_ref().lines();
            let target = lines.next().and_then(Result::ok).unwrap_or_default();
            let headers: Vec<String> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            let value = |wanted: &str| {
                let pairs = headers.iter().filter_map(|line| line.split_once(": "));
                pairs.filter(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value).next()
            };
            let (status, body) = if target.starts_with("POST") {
                // OAuth 2: a refresh token for an access token, with no other login beside it.
                let mut form = vec![0; value("content-length").unwrap().parse().unwrap()];
                reader.read_exact(&mut form).unwrap();
                let form = String::from_utf8(form).unwrap();
                let has = |pair: &str| form.split('&').any(|own| own == pair);
                let pairs = ["grant_type=refresh_token", "service=store", &format!("refresh_token={REFRESH}")];
                let is_whole = form.split('&').any(|pair| pair.starts_with("client_id="));
                match pairs.iter().all(|pair| has(pair)) && is_whole && value("authorization").is_none() {
                    true => {
                        let query = form.replace('+', "&scope=");
                        ("200 OK", format!("{{\"access_token\":\"{}\"}}", token(&dir, &format!("POST /?{query} HTTP"))))
                    }
                    false => ("401 Unauthorized", "{}".to_owned()),
                }
            } else if value("authorization") == Some(&expected) {
                ("200 OK", format!("{{\"token\":\"{}\"}}", token(&dir, &target)))
            } else {
                ("401 Unauthorized", "{}".to_owned())
            };
            let length = body.len();
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
            // A client that goes away is fine.
            drop((&stream).write_all(answer.as_bytes()));
        }
    });
    realm
}

fn token(dir: &Path, target: &str) -> String {
    let der =
        Command::new("openssl").args(["x509", "-outform", "der", "-in"]).arg(dir.join("cert.pem")).output().unwrap();
    let header = format!(r#"{{"typ":"JWT","alg":"RS256","x5c":["{}"]}}"#, base64(&der.stdout, false));
    let query = target.split(' ').nth(1).unwrap_or_default().split_once('?').map_or("", |(_, query)| query);
    let scopes = query.split('&').filter_map(|pair| pair.strip_prefix("scope="));
    let access = scopes.filter_map(|scope| {
        let scope = scope.replace("%3A", ":").replace("%2F", "/").replace("%2C", ",");
        let parts: Vec<&str> = scope.split(':').collect();
        let [kind, name, actions] = parts[..] else { return None };
        let actions = actions.split(',').map(|action| format!("\"{action}\"")).collect::<Vec<_>>().join(",");
        Some(format!(r#"{{"type":"{kind}","name":"{name}","actions":[{actions}]}}"#))
    });
    let access = access.collect::<Vec<_>>().join(",");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let (from, until) = (now - 60, now + 300);
    let claims = format!(
        r#"{{"iss":"tokens","sub":"{USER}","aud":"store","exp":{until},"nbf":{from},"iat":{from},"jti":"1","access":[{access}]}}"#
    );
    let signed = format!("{}.{}", base64(header.as_bytes(), true), base64(claims.as_bytes(), true));
    let mut sign = Command::new("openssl")
        .args(["dgst", "-sha256", "-sign"])
        .arg(dir.join("key.pem"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    sign.stdin.take().unwrap().write_all(signed.as_bytes()).unwrap();
    let signature = sign.wait_with_output().unwrap().stdout;
    format!("{signed}.{}", base64(&signature, true))
}

fn base64(bytes: &[u8], for_url: bool) -> String {
    let digits: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0usize, |bits, at| bits << 8 | usize::from(*group.get(at).unwrap_or(&0)));
        for at in 0..4 {
            let digit = char::from(digits[bits >> (18 - 6 * at) & 63]);
            match at <= group.len() {
                true if for_url => text.push(match digit {
                    '+' => '-',
                    '/' => '_',
                    digit => digit,
                }),
                true => text.push(digit),
                false if for_url => {}
                false => text.push('='),
            }
        }
    }
    text
}
