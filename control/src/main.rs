//! `tektin`: the agent, the proxy and the command line, in one binary.

fn main() -> std::process::ExitCode {
    tektin::main()
}
