//! The true model against figures of another implementation of it, in double precision with the tokenizer of its authors.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a failed expectation is a failed test"
)]

use std::path::Path;
use std::time::Instant;

use a2a_core::embedding::ModelVector;
use a2a_model::{Model, ModelFolder};
use a2a_testing::installed::sentence_transformer;

fn folder() -> Option<ModelFolder> {
    let folder = sentence_transformer(Path::new(env!("CARGO_TARGET_TMPDIR")))?;
    Some(ModelFolder::open(&folder).unwrap())
}

/// The numbers of a vector of length one.
fn numbers(vector: &ModelVector) -> Vec<f32> {
    let whole: Vec<f32> = vector.to_bytes().iter().map(|byte| f32::from(byte.cast_signed())).collect();
    let length = whole.iter().map(|x| x * x).sum::<f32>().sqrt();
    whole.iter().map(|x| x / length).collect()
}

#[test]
fn vectors_are_those_of_the_reference() {
    let Some(folder) = folder() else { return };
    let model = Model::load(&folder).unwrap();
    assert_eq!(folder.dimensions(), 384);
    let long = "word ".repeat(400);
    for (text, first, last) in [
        (
            "This is an example sentence",
            [0.067657, 0.063496, 0.048713, 0.079305, 0.037448, 0.002653],
            [0.059965, -0.042229],
        ),
        (
            "Each sentence is converted",
            [0.086439, 0.102763, 0.005395, 0.002044, -0.009963, 0.025386],
            [0.074931, -0.084177],
        ),
        ("when do we deploy?", [0.029954, -0.041727, -0.00079, -0.0255, 0.030894, -0.003977], [-0.029009, -0.003609]),
        (
            "Wir liefern nur dienstags aus – außer im März.",
            [-0.063939, 0.095604, 0.002419, 0.058163, 0.011778, 0.113911],
            [0.01369, -0.020424],
        ),
        (
            "日本語 and naïve café 😀",
            [-0.00142, -0.01616, 0.082013, -0.017152, -0.004456, 0.037724],
            [-0.055981, -0.067916],
        ),
        (&long, [-0.008124, -0.095586, -0.038673, 0.049662, -0.043794, 0.02372], [0.087092, 0.015241]),
    ] {
        let found = numbers(&model.embed(text).unwrap());
        // A byte for each number is right to about half a hundredth of the largest.
        let largest = found.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        for (found, wanted) in found.iter().take(6).zip(first).chain(found.iter().skip(382).zip(last)) {
            assert!((found - wanted).abs() < largest / 127.0, "{text}: {found} {wanted}");
        }
    }
}

#[test]
fn what_means_the_same_is_near() {
    let Some(folder) = folder() else { return };
    let model = Model::load(&folder).unwrap();
    let embed = |text: &str| model.embed(text).unwrap();
    let question = embed("when do we ship?");
    let (near, far) = (embed("releases go out on Thursdays"), embed("the cat sleeps on the sofa"));
    assert!(question.cosine(&near) > question.cosine(&far) + 0.1);
    let start = Instant::now();
    for n in 0..20 {
        embed(&format!("when do we ship the release number {n}?"));
    }
    eprintln!("a question of a few words takes {:.1} ms", start.elapsed().as_secs_f64() * 1_000.0 / 20.0);
}

#[test]
fn two_folders_with_the_same_files_are_one_model_and_a_changed_one_is_another() {
    let Some(folder) = folder() else { return };
    let copy = tempfile::tempdir().unwrap();
    let copy = copy.path().join("all-MiniLM");
    std::fs::create_dir_all(copy.join("1_Pooling")).unwrap();
    for file in ["config.json", "vocab.txt", "model.safetensors", "1_Pooling/config.json"] {
        std::fs::copy(folder.folder().join(file), copy.join(file)).unwrap();
    }
    let print = |folder: &ModelFolder| folder.name().split(' ').next().unwrap().to_owned();
    assert_eq!(print(&ModelFolder::open(&copy).unwrap()), print(&folder));
    let mut weights = std::fs::read(copy.join("model.safetensors")).unwrap();
    // Training on moves every number.
    weights.iter_mut().skip(1_000_000).step_by(1_000).for_each(|byte| *byte ^= 1);
    std::fs::write(copy.join("model.safetensors"), &weights).unwrap();
    assert_ne!(print(&ModelFolder::open(&copy).unwrap()), print(&folder));
    std::fs::write(copy.join("model.safetensors"), &weights[..1_000_000]).unwrap();
    assert!(Model::load(&ModelFolder::open(&copy).unwrap()).is_err(), "cut off");
    std::fs::write(copy.join("vocab.txt"), "one\ntwo").unwrap();
    assert!(Model::load(&ModelFolder::open(&copy).unwrap()).is_err(), "no vocabulary");
    std::fs::write(copy.join("model.safetensors"), [255; 64]).unwrap();
    assert!(ModelFolder::open(&copy).is_err(), "no weights");
}
