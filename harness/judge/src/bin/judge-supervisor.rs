//! The supervisor as a program of its own, for runners whose `main` is not theirs to begin with
//! [`judge::supervise_if_asked`], such as tests.

fn main() {
    judge::supervise_if_asked();
    eprintln!("judge-supervisor: started by the judge only, see `judge::supervise_with`");
    std::process::exit(2);
}
