#!/bin/sh
# Makes the bindings again after wit/world.wit was changed: `sh bindings/generate.sh`.
# It needs wit-bindgen: `cargo install --locked wit-bindgen-cli@0.63.0`.
cd "$(dirname "$0")" && exec wit-bindgen c ../wit --world function \
  --rename wasi:http/types@0.2.10=http \
  --rename wasi:http/incoming-handler@0.2.10=incoming \
  --rename wasi:http/outgoing-handler@0.2.10=outgoing \
  --rename wasi:io/streams@0.2.10=io \
  --rename wasi:io/poll@0.2.10=poll \
  --rename wasi:io/error@0.2.10=io_error \
  --rename wasi:clocks/monotonic-clock@0.2.10=clock \
  --rename wasi:keyvalue/store@0.2.0-draft2=keyvalue \
  --rename wasi:config/store@0.2.0-rc.1=config
