#!/usr/bin/env -S jq --from-file --raw-output --compact-output
# From `cargo metadata` to a CycloneDX 1.5 list of what is linked into the binary. Development and build dependencies are
# not in it. --arg digest: the image's manifest.
(.packages | map({key: .id, value: .}) | from_entries) as $packages
| (.resolve.nodes | map({key: .id, value: [.deps[] | select(any(.dep_kinds[]; .kind == null)) | .pkg]}) | from_entries)
  as $needs
| def reached($new; $all):
    if ($new | length) == 0 then $all
    else ($all + ($new | map({key: ., value: true}) | from_entries)) as $all
      | ([$new[] | $needs[.][]] | unique | map(select($all[.] | not))) as $next
      | reached($next; $all)
    end;
  def named($p): {
    type: (if $p.name == "fota" then "application" else "library" end),
    "bom-ref": "pkg:cargo/\($p.name)@\($p.version)",
    name: $p.name, version: $p.version,
    licenses: [if $p.license then {expression: ($p.license | gsub(" */ *"; " OR "))} else empty end],
    purl: "pkg:cargo/\($p.name)@\($p.version)"
  };
  .resolve.root as $root
| reached([$root]; {}) as $linked
| {
    bomFormat: "CycloneDX", specVersion: "1.5", version: 1,
    metadata: {component: (named($packages[$root]) + {hashes: [{alg: "SHA-256", content: $digest}]})},
    components: [$linked | keys[] | select(. != $root) | named($packages[.])] | sort_by(.purl),
    dependencies: [$linked | keys[] | {
      ref: named($packages[.]).purl,
      dependsOn: [$needs[.][] | named($packages[.]).purl] | unique
    }] | sort_by(.ref)
  }
