use std::io::{Read, Write};

use serde_json::json;

use super::scan::{Malformed, Reads, SCANNERS};
use super::*;

fn debian() -> Distribution {
    Distribution::read("PRETTY_NAME=\"Debian\"\nID=debian\nVERSION_ID=\"12\"\n")
}

/// What the scanner for a path makes of bytes: package URLs, or why not.
fn scan(path: &str, bytes: &[u8]) -> Result<Vec<String>, &'static str> {
    let scanner = SCANNERS.iter().find(|scanner| (scanner.fits)(path, true)).unwrap_or_else(|| panic!("{path}"));
    let packages = match scanner.reads {
        Reads::Text(scan) => scan(&String::from_utf8_lossy(bytes), path, &debian()),
        Reads::Parts(scan) => {
            let read_at = |offset: u64, buffer: &mut [u8]| {
                let from = usize::try_from(offset).unwrap_or(usize::MAX);
                let part = bytes.get(from..).and_then(|rest| rest.get(..buffer.len()));
                part.inspect(|part| buffer.copy_from_slice(part)).is_some()
            };
            scan(&read_at, bytes.len() as u64, &debian())
        }
    };
    match packages {
        Ok(packages) => Ok(packages.iter().map(|package| package.purl.to_string()).collect()),
        Err(Malformed(why)) => Err(why),
    }
}

#[test]
fn databases_and_lock_files_yield_their_packages() {
    let dpkg = "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nSource: glibc (2.36)\n\
        Version: 2.36-9+deb12u1\nDescription: x\n more\n Version: 9\n\nPackage: gone\nStatus: deinstall ok config-files\n\
        Version: 1\n\n\nPackage: half\nStatus: install ok half-installed\nVersion: 1\n";
    let apk = "C:Q1x=\nP:musl\nV:1.2.4-r2\nA:x86_64\no:musl\n\nP:ssl_client\nV:1.36.1-r5\nA:x86_64\no:busybox\n";
    let npm1 = json!({"dependencies": {"a": {"version": "1.0.0", "dependencies": {"b": {"version": "2.0.0"}}}}});
    let npm3 = json!({"packages": {
        "": {"name": "me", "version": "0.0.1"}, "node_modules/@s/a": {"version": "1.0.0"},
        "node_modules/x/node_modules/b": {"version": "2.0.0"}, "node_modules/l": {"link": true},
    }});
    let yarn1 = "# yarn lockfile v1\n\n\"@s/a@^1.0.0\", \"@s/a@^1.1.0\":\n  version \"1.1.0\"\n  resolved \"x\"\n\n\
        b@~2:\n  version \"2.0.1\"\n  dependencies:\n    version \"9\"\n";
    let yarn2 = "__metadata:\n  version: 6\n\n\"@s/a@npm:^1.0.0\":\n  version: 1.1.0\n  resolution: \"x\"\n\n\
        \"me@workspace:.\":\n  version: 0.0.0-use.local\n";
    let pnpm = "lockfileVersion: 5.4\npackages:\n\n  /@s/a/1.0.0:\n    dev: true\n  /b@2.0.0(c@1):\n    x: y\n  'd@3.0.0':\n\
        snapshots:\n  e@1.0.0:\n";
    let cargo = "version = 4\n\n[[package]]\nname = \"a\"\nversion = \"1.0.0\"\ndependencies = [\n \"b\",\n]\n\n\
        [metadata]\nname = \"x\"\nversion = \"1\"\n";
    let pipfile =
        json!({"default": {"A_b": {"version": "==1.0"}, "c": {"git": "x"}}, "develop": {"d": {"version": "==2"}}});
    let requirements = "# x\nDjango[argon2]==4.2 ; python_version > '3'\nrequests>=2\n-e x==1\nfoo == 1.0 --hash=sha256:ab\n\
        bar==1.*\n";
    let composer = json!({"packages": [{"name": "v/a", "version": "v1.0.0"}], "packages-dev": [{"name": "b"}]});
    let gemfile = "GEM\n  remote: https://rubygems.org/\n  specs:\n    rack (2.2.3)\n      x (>= 1)\n    nokogiri (1.14.0-x86_64-linux)\n\n\
        PLATFORMS\n    ruby (1.0)\n";
    let module = "module example.com/me\n\ngo 1.22\n\nrequire golang.org/x/sys v0.1.0 // indirect\nrequire (\n\tgithub.com/a/b v1.2.3\n)\n\
        replace x => y v1\n";
    for (path, text, want) in [
        (
            "var/lib/dpkg/status",
            dpkg,
            vec!["pkg:deb/debian/libc6@2.36-9%2Bdeb12u1?arch=amd64&distro=debian-12&upstream=glibc"],
        ),
        ("var/lib/dpkg/status.d/base", "Package: base\nVersion: 1\n", vec!["pkg:deb/debian/base@1?distro=debian-12"]),
        (
            "lib/apk/db/installed",
            apk,
            vec![
                "pkg:apk/debian/musl@1.2.4-r2?arch=x86_64&distro=debian-12",
                "pkg:apk/debian/ssl_client@1.36.1-r5?arch=x86_64&distro=debian-12&upstream=busybox",
            ],
        ),
        ("package-lock.json", &npm1.to_string(), vec!["pkg:npm/a@1.0.0", "pkg:npm/b@2.0.0"]),
        ("app/package-lock.json", &npm3.to_string(), vec!["pkg:npm/%40s/a@1.0.0", "pkg:npm/b@2.0.0"]),
        ("node_modules/@s/a/package.json", r#"{"name":"@s/a","version":"1.0.0"}"#, vec!["pkg:npm/%40s/a@1.0.0"]),
        ("yarn.lock", yarn1, vec!["pkg:npm/%40s/a@1.1.0", "pkg:npm/b@2.0.1"]),
        ("a/yarn.lock", yarn2, vec!["pkg:npm/%40s/a@1.1.0"]),
        ("pnpm-lock.yaml", pnpm, vec!["pkg:npm/%40s/a@1.0.0", "pkg:npm/b@2.0.0", "pkg:npm/d@3.0.0"]),
        ("Cargo.lock", cargo, vec!["pkg:cargo/a@1.0.0"]),
        (
            "x/A_b-1.0.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: A_b.c\nVersion: 1.0\n\nName: x\n",
            vec!["pkg:pypi/a-b-c@1.0"],
        ),
        ("uv.lock", "[[package]]\nname = \"a\"\nversion = \"1\"\n", vec!["pkg:pypi/a@1"]),
        ("Pipfile.lock", &pipfile.to_string(), vec!["pkg:pypi/a-b@1.0", "pkg:pypi/d@2"]),
        ("requirements.txt", requirements, vec!["pkg:pypi/django@4.2", "pkg:pypi/foo@1.0"]),
        ("composer.lock", &composer.to_string(), vec!["pkg:composer/v/a@v1.0.0"]),
        ("Gemfile.lock", gemfile, vec!["pkg:gem/rack@2.2.3", "pkg:gem/nokogiri@1.14.0?platform=x86_64-linux"]),
        ("gems/specifications/a-b-1.2.gemspec", "", vec!["pkg:gem/a-b@1.2"]),
        ("go.mod", module, vec!["pkg:golang/golang.org/x/sys@v0.1.0", "pkg:golang/github.com/a/b@v1.2.3"]),
    ] {
        assert_eq!(scan(path, text.as_bytes()), Ok(want.into_iter().map(str::to_owned).collect()), "{path}");
    }
}

/// A ZIP archive of one deflated entry.
fn zip(name: &str, text: &str) -> Vec<u8> {
    let mut data = Vec::new();
    let mut encoder = flate2::write::DeflateEncoder::new(&mut data, flate2::Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap();
    let sizes = |out: &mut Vec<u8>| {
        out.extend(0u32.to_le_bytes());
        out.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
        out.extend(u32::try_from(text.len()).unwrap().to_le_bytes());
        out.extend(u16::try_from(name.len()).unwrap().to_le_bytes());
        out.extend(0u16.to_le_bytes());
    };
    let mut out = b"PK\x03\x04\x14\0\0\0\x08\0\0\0\0\0".to_vec();
    sizes(&mut out);
    out.extend(name.as_bytes());
    out.extend(&data);
    let offset = out.len();
    out.extend(b"PK\x01\x02\x14\0\x14\0\0\0\x08\0\0\0\0\0");
    sizes(&mut out);
    out.extend([0; 14]);
    out.extend(name.as_bytes());
    let length = out.len() - offset;
    out.extend(b"PK\x05\x06\0\0\0\0\x01\0\x01\0");
    out.extend(u32::try_from(length).unwrap().to_le_bytes());
    out.extend(u32::try_from(offset).unwrap().to_le_bytes());
    out.extend([0; 2]);
    out
}

/// An ELF file whose one section is Go's build information.
fn go_program() -> Vec<u8> {
    let list = "path\texample.com/me\nmod\texample.com/me\t(devel)\t\ndep\tgithub.com/a/b\tv1.0.0\th1:x\n\
        dep\tgithub.com/c/d\tv1.0.0\n=>\tgithub.com/e/f\tv2.0.0\th1:y\n";
    let list = format!("{0}{list}{0}", "m".repeat(16));
    let mut info = b"\xff Go buildinf:\x08\x02".to_vec();
    info.resize(32, 0);
    for text in ["go1.22.1", &list] {
        let mut length = text.len();
        while length >= 0x80 {
            info.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        info.push(length as u8);
        info.extend(text.as_bytes());
    }
    let names = b"\0.go.buildinfo\0";
    let (at_names, at_info) = (64, 64 + names.len());
    let table = at_info + info.len();
    let mut out = b"\x7fELF\x02\x01".to_vec();
    out.resize(64, 0);
    out[40..48].copy_from_slice(&(table as u64).to_le_bytes());
    out[58..60].copy_from_slice(&64u16.to_le_bytes());
    out[60..62].copy_from_slice(&2u16.to_le_bytes());
    out.extend(names);
    out.extend(&info);
    for (name, at, length) in [(0u32, at_names, names.len()), (1, at_info, info.len())] {
        let mut header = [0; 64];
        header[..4].copy_from_slice(&name.to_le_bytes());
        header[24..32].copy_from_slice(&(at as u64).to_le_bytes());
        header[32..40].copy_from_slice(&(length as u64).to_le_bytes());
        out.extend(header);
    }
    out
}

#[test]
fn archives_and_programs_are_looked_into() {
    let properties = "#Generated\ngroupId=org.example\nartifactId = a-b\nversion=1.0\n";
    let jar = zip("META-INF/maven/org.example/a-b/pom.properties", properties);
    assert_eq!(scan("x/a.jar", &jar), Ok(vec!["pkg:maven/org.example/a-b@1.0".to_owned()]));
    let want = ["pkg:golang/stdlib@1.22.1", "pkg:golang/github.com/a/b@v1.0.0", "pkg:golang/github.com/e/f@v2.0.0"];
    assert_eq!(scan("usr/bin/me", &go_program()), Ok(want.map(str::to_owned).to_vec()));
    assert_eq!(scan("bin/sh", b"#!/bin/sh\n"), Ok(vec![]));
    assert!(scan("var/lib/rpm/Packages", &[0; 4096]).is_err(), "an unknown form is told");
}

fn unpacked(packed: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(packed).read_to_end(&mut plain).unwrap();
    plain
}

/// A database that RPM 4.18 has written: three packages with long headers, and 40 small ones.
fn rpm_sqlite() -> Vec<u8> {
    unpacked(include_bytes!("../../../testdata/sbom/rpmdb.sqlite.gz"))
}

/// The same headers as `db5.3_load` writes them; RPM 4.18 lists the same packages of both.
fn rpm_bdb() -> Vec<u8> {
    unpacked(include_bytes!("../../../testdata/sbom/Packages.gz"))
}

/// SUSE's form of database with one package.
fn rpm_ndb() -> Vec<u8> {
    let fields: [(u32, u32, &[u8]); 5] =
        [(1000, 6, b"a\0"), (1001, 6, b"1.0\0"), (1002, 6, b"2\0"), (1003, 4, &[0, 0, 0, 7]), (1022, 6, b"noarch\0")];
    let (mut table, mut heap) = (Vec::new(), Vec::<u8>::new());
    for (tag, kind, value) in fields {
        for word in [tag, kind, heap.len() as u32, 1] {
            table.extend(word.to_be_bytes());
        }
        heap.extend(value);
    }
    let mut header = 5u32.to_be_bytes().to_vec();
    header.extend((heap.len() as u32).to_be_bytes());
    header.extend(table);
    header.extend(heap);
    let mut out = b"RpmP".to_vec();
    for word in [0u32, 1, 1, 0, 0, 0, 0] {
        out.extend(word.to_le_bytes());
    }
    out.extend(b"Slot");
    for word in [1u32, 256, 1] {
        out.extend(word.to_le_bytes());
    }
    out.resize(4096, 0);
    out.extend(b"BlbS");
    for word in [1u32, 0, header.len() as u32] {
        out.extend(word.to_le_bytes());
    }
    out.extend(header);
    out
}

#[test]
fn databases_of_rpm_are_read() {
    let sorted = |path, bytes: &[u8]| {
        let mut found = scan(path, bytes).unwrap();
        found.sort();
        found
    };
    let found = sorted("usr/lib/sysimage/rpm/rpmdb.sqlite", &rpm_sqlite());
    assert_eq!(found.len(), 43, "{found:?}");
    for want in [
        "pkg:rpm/debian/alpha@1.1-1.el9?arch=noarch&distro=debian-12&upstream=alpha-1.1-1.el9.src.rpm",
        "pkg:rpm/debian/beta@1.2-2.el9?arch=noarch&distro=debian-12&epoch=2&upstream=beta-1.2-2.el9.src.rpm",
        "pkg:rpm/debian/sub40@3.0-1?arch=noarch&distro=debian-12&upstream=many-3.0-1.src.rpm",
    ] {
        assert!(found.iter().any(|purl| purl == want), "{want} in {found:?}");
    }
    assert_eq!(sorted("var/lib/rpm/Packages", &rpm_bdb()), found);
    let ndb = scan("usr/lib/sysimage/rpm/Packages.db", &rpm_ndb());
    assert_eq!(ndb, Ok(vec!["pkg:rpm/debian/a@1.0-2?arch=noarch&distro=debian-12&epoch=7".to_owned()]));
}

#[test]
fn a_damaged_database_of_rpm_ends() {
    for (path, whole) in [("var/lib/rpm/rpmdb.sqlite", rpm_sqlite()), ("var/lib/rpm/Packages", rpm_bdb())] {
        for end in (0..whole.len()).step_by(997) {
            drop(scan(path, &whole[..end]));
            for flip in [0x01, 0xff] {
                let mut other = whole.clone();
                other[end] ^= flip;
                drop(scan(path, &other));
            }
        }
        // The beginning is where the trees are told, and that of a page where its items are.
        for at in (0..200).chain(8192..8392) {
            let mut other = whole.clone();
            other[at] = !other[at];
            drop(scan(path, &other));
        }
    }
}

#[test]
fn hostile_files_are_noted_and_never_crash() {
    let deep = format!("{}{}", "{\"dependencies\":{\"a\":".repeat(5000), "1");
    let long = format!("Package: {}\nVersion: 1\n", "a".repeat(10_000));
    let bell = "Package: a\u{7}b\nVersion: 1\n\nPackage: ok\nVersion: 1\u{1b}[0m\n\nPackage:\nVersion: 1\n";
    for (path, bytes, ok) in [
        ("package-lock.json", deep.as_bytes(), false),
        ("package-lock.json", b"[1,2", false),
        ("package-lock.json", b"{\"packages\":[],\"dependencies\":{\"a\":3,\"b\":{\"version\":{}}}}", true),
        ("composer.lock", b"{\"packages\":{\"name\":1}}", true),
        ("Pipfile.lock", b"null", true),
        ("var/lib/dpkg/status", long.as_bytes(), true),
        ("var/lib/dpkg/status", bell.as_bytes(), true),
        ("var/lib/dpkg/status", b"\xff\xfe:\n:::\n Package: x\n", true),
        ("yarn.lock", b"@\n  version \"1\"\n@a\n  version 1\n\"\"\n", true),
        ("pnpm-lock.yaml", b"packages:\n  @:\n  /:\n  '':\n  a@:\n", true),
        ("Cargo.lock", b"[[package]]\nname = \"\nversion = \"\n", true),
        ("requirements.txt", b"==\n==1\n[==]\n;\n", true),
        ("Gemfile.lock", b"  specs:\n    (\n     ()\n    a ()\n", true),
        ("specifications/-.gemspec", b"", true),
        ("go.mod", b"require\nrequire (\n(\n)\n\t\n", true),
        ("a.jar", b"", false),
        ("a.jar", b"PK\x05\x06", false),
        ("bin/x", b"\x7fELF\x02\x01", true),
    ] {
        let found = scan(path, bytes);
        assert_eq!(found.is_ok(), ok, "{path}: {found:?}");
        assert!(found.unwrap_or_default().is_empty(), "{path}");
    }
}

#[test]
fn no_truncation_or_flip_of_a_binary_file_crashes() {
    let jar = zip("META-INF/maven/g/a/pom.properties", "groupId=g\nartifactId=a\nversion=1\n");
    for (path, whole) in [("a.jar", jar), ("bin/x", go_program()), ("var/lib/rpm/Packages.db", rpm_ndb())] {
        for end in 0..whole.len() {
            drop(scan(path, &whole[..end]));
            for flip in [0x01, 0x80, 0xff] {
                let mut other = whole.clone();
                other[end] ^= flip;
                drop(scan(path, &other));
            }
        }
    }
}

#[test]
fn documents_are_of_the_image_alone() {
    let mut inventory = Inventory::default();
    let package = |name: &str| Package::new(Purl::new("npm", name, "1").within("@s"), name, "1").unwrap();
    inventory.add(vec![package("b"), package("a")], "/z/package-lock.json");
    inventory.add(vec![package("a")], "/a/package-lock.json");
    inventory.note("\"/x\": is broken".to_owned());
    let digest = crate::digest::Digest::of(b"x");
    let described = spdx::Described {
        name: "app",
        digest: Some(digest),
        created: "2023-01-01T00:00:00.123Z",
        tool: "lapstrake-0.1.0",
    };
    let document = spdx::document(&inventory, &described);
    assert_eq!(document["spdxVersion"], "SPDX-2.3");
    assert_eq!(document["creationInfo"]["created"], "2023-01-01T00:00:00Z");
    assert_eq!(document["documentNamespace"], format!("https://spdx.org/spdxdocs/lapstrake-{}", digest.hex()));
    assert_eq!(document["comment"], "Not everything could be read:\n\"/x\": is broken");
    let packages = document["packages"].as_array().unwrap();
    assert_eq!(packages.len(), 3, "the image and two packages");
    assert_eq!(packages[1]["externalRefs"][0]["referenceLocator"], "pkg:npm/%40s/a@1");
    assert_eq!(packages[1]["sourceInfo"], "found in /a/package-lock.json");
    let ids: std::collections::BTreeSet<&str> =
        packages.iter().map(|entry| entry["SPDXID"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 3, "identifiers are unique");
    for relation in document["relationships"].as_array().unwrap() {
        let related = relation["relatedSpdxElement"].as_str().unwrap();
        assert!(ids.contains(related), "{related}");
    }
    for id in ids {
        assert!(id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte)), "{id}");
    }
}
