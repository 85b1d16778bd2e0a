//! Prints one line for each public item of a crate: `api-listing FILE`, of the JSON of rustdoc.

use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(file) = std::env::args().nth(1) else {
        eprintln!("usage: api-listing FILE");
        return ExitCode::FAILURE;
    };
    // What every type implements, and what is derived from its parts, says nothing of its own.
    let listing = public_api::Builder::from_rustdoc_json(file)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(true)
        .build();
    match listing {
        Ok(listing) => {
            print!("{listing}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("api-listing: {error}");
            ExitCode::FAILURE
        }
    }
}
