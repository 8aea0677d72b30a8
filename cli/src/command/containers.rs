//! What the commands about containers share.

use lap_executor::container::{ContainerError, Containers};

use crate::command::App;
use crate::exit::{FAILED, WithCode};
use crate::ui::error::advise;

/// The containers of the store.
pub(super) fn all(app: &App) -> anyhow::Result<Containers> {
    Ok(Containers::new(app.store()?.clone(), &app.settings.run_dir))
}

/// An error with the exit code and the advice that belong to it.
pub(super) fn failure(error: ContainerError) -> anyhow::Error {
    let code = error.exit_code();
    let hint = error.hint().map(str::to_owned);
    let error = match hint {
        Some(hint) => advise(error, hint),
        None => anyhow::Error::new(error),
    };
    WithCode::wrap(code, error)
}

/// Does something with each of several containers; one that fails does not keep the others from it. Prints the name
/// of each that it worked for.
pub(super) fn each(names: &[String], mut act: impl FnMut(&str) -> Result<(), ContainerError>) -> anyhow::Result<i32> {
    let mut code = 0;
    for name in names {
        match act(name) {
            Ok(()) => outln!("{name}")?,
            Err(error) => {
                eprint!("{}", crate::ui::error::render(&anyhow::Error::new(error), false));
                code = FAILED;
            }
        }
    }
    Ok(code)
}
