//! `lap version`

use serde_json::json;

use crate::command::inspect;
use crate::shape;

pub(super) fn run(format: &str) -> anyhow::Result<i32> {
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    if format.is_empty() {
        outln!("lap {VERSION}")?;
        return Ok(0);
    }
    let arch = lap_solver::platform::Platform::host().architecture;
    // There is no server; scripts that ask for its version mean that of the program which does the work.
    let part = json!({"Platform": {"Name": "Lapstrake"}, "Version": VERSION, "ApiVersion": "1.51", "Os": "linux", "Arch": arch});
    let (mut client, mut server) = (part.clone(), part);
    client["DefaultAPIVersion"] = "1.51".into();
    client["Context"] = "default".into();
    server["KernelVersion"] = rustix::system::uname().release().to_string_lossy().into();
    let value = shape::version(&json!({"Client": client, "Server": server}));
    out!("{}", inspect::said(format, &value)?)?;
    Ok(0)
}
