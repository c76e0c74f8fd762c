//! What Prometheus and Alertmanager share: flags, lifecycle and the way they take a configuration.

use std::ffi::OsString;
use std::path::Path;

use crate::running::Running;
use crate::{Configuration, ControlError};

/// Where the configuration lies, under the server's folder.
pub(crate) const CONFIGURATION_FOLDER: &str = "configuration";

/// `name=path`, for paths that need not be UTF-8.
pub(crate) fn flag(name: &str, path: &Path) -> OsString {
    let mut flag = OsString::from(name);
    flag.push("=");
    flag.push(path);
    flag
}

/// Writes the files and asks the server to read them; it answers once it has.
pub(crate) fn reload(
    running: &Running,
    configuration: &Configuration,
    main: &str,
) -> Result<(), ControlError> {
    running.reload(|write, request| {
        for (name, contents) in configuration.files(Path::new(CONFIGURATION_FOLDER), main) {
            write(&name, &contents)?;
        }
        let answer = request("/-/reload").map_err(|error| error.to_string())?;
        if answer.is_success() {
            Ok(())
        } else {
            Err(answer.body.trim().to_owned())
        }
    })
}

/// The images of both have the server as their entry point and a writable working folder.
pub(crate) fn container_layout(
    configuration: &Configuration,
    main: &str,
    flags: &[String],
    settings: fn(&str, &Path) -> Vec<OsString>,
) -> crate::container::Layout {
    let main_path = crate::container::folder()
        .join(CONFIGURATION_FOLDER)
        .join(main);
    let flags = flags.to_vec();
    crate::container::Layout {
        files: configuration.files(Path::new(CONFIGURATION_FOLDER), main),
        reaches_loopback: true,
        ..crate::container::Layout::new(move |listen| {
            let mut command = vec![flag("--config.file", &main_path)];
            command.extend(settings(listen, Path::new("data")));
            command
                .into_iter()
                .map(|part| part.to_string_lossy().into_owned())
                .chain(flags.iter().cloned())
                .collect()
        })
    }
}
