;; Two instances of one module, each with a memory of its own; both grow without end, then it traps.
(component
  (import "wasi:http/types@0.2.0" (instance $types
    (export "incoming-request" (type (sub resource)))
    (export "response-outparam" (type (sub resource)))))
  (alias export $types "incoming-request" (type $request))
  (alias export $types "response-outparam" (type $out))
  (core module $other
    (memory 1)
    (func (export "grow") (result i32) (memory.grow (i32.const 64))))
  (core module $module
    (import "other" "grow" (func $grow (result i32)))
    (memory 1)
    (func (export "handle") (param i32 i32)
      (loop $more
        (br_if $more (i32.and
          (i32.ne (memory.grow (i32.const 64)) (i32.const -1))
          (i32.ne (call $grow) (i32.const -1)))))
      unreachable))
  (core instance $second (instantiate $other))
  (core instance $core (instantiate $module (with "other" (instance $second))))
  (func $handle (param "request" (own $request)) (param "response-out" (own $out))
    (canon lift (core func $core "handle")))
  (instance $handler (export "handle" (func $handle)))
  (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))
