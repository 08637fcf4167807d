//! Generates the types of `proto/link.proto`, with no need for an installed `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto/link.proto");
    let descriptors = protox::compile(["proto/link.proto"], ["proto"])?;
    tonic_prost_build::configure()
        .build_client(true)
        .build_server(true)
        // Its own `connect` would collide with the method of that name; the proxy brings its channel.
        .build_transport(false)
        // Cheap to keep and to send again.
        .bytes(".tektin.link.v1.FromProxy.numbered_records")
        .bytes(".tektin.link.v1.EncodedRecords.records")
        .compile_fds(descriptors)?;
    Ok(())
}
