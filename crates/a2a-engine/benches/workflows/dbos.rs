//! DBOS Transact for Python: the same shapes, on the same server.

use std::time::Duration;

use serde_json::json;

use crate::Shape;
use crate::python::Python;

const PACKAGES: [&str; 1] = ["dbos==3.4.0"];

pub(crate) struct Dbos(Python);

impl Dbos {
    /// `url` names an empty database.
    pub(crate) fn start(url: &str) -> Option<Self> {
        Python::start("shapes_in_dbos.py", &PACKAGES, &[&url.replacen("postgres:", "postgresql:", 1)]).map(Self)
    }

    pub(crate) fn run(&mut self, shape: Shape) -> Duration {
        let shape = json!({"runs": shape.runs, "steps": shape.steps, "chained": shape.chained});
        self.0.measure(&shape.to_string())
    }
}
