#!/usr/bin/env python3
"""Packs a built binary as a PyPI wheel and an npm package, for hosts without a Rust toolchain.

    deploy/package/pack.py --binary target/release/outrigger --out target/package

The binary is stripped first. The ELF header names the processor, and the symbols name the oldest C library that can run the
binary: both stand in the wheel's tag and in package.json, so that an installer refuses a host that cannot run it. The same
binary gives the same bytes. Needs `strip` and `objdump` (Debian package binutils), and nothing from a registry.
"""

import argparse
import base64
import gzip
import hashlib
import io
import json
import os
import pathlib
import re
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
# ELF `e_machine`: the name of wheels, the name of Node.js.
MACHINES = {62: ("x86_64", "x64"), 183: ("aarch64", "arm64")}
SUMMARY = "A sidecar reverse proxy for AI apps: caching, limits, retries, breakers, cost and telemetry by one file"
# The first moment that a zip can name. A clock would make each packing differ.
MOMENT = (1980, 1, 1, 0, 0, 0)


def main():
    """Packs what the command line names, or says in one line why it cannot."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "target/release/outrigger")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "target/package")
    asked = parser.parse_args()
    if not asked.binary.is_file():
        sys.exit(f"pack: {asked.binary} is not there. Build it first: cargo build --release --locked")
    release = read_release()
    asked.out.mkdir(parents=True, exist_ok=True)
    program = stripped(asked.binary)
    wheel_machine, node_machine = machine(program)
    libc = oldest_libc(asked.binary)
    for path, content in (wheel(release, program, wheel_machine, libc), npm(release, program, node_machine, libc)):
        target = asked.out / path
        target.write_bytes(content)
        print(f"{target}: {len(content) / 1048576:.1f} MiB")


def read_release():
    """Name, version and licence of the release, as Cargo.toml says them."""
    package = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]
    return {"name": package["name"], "version": package["version"], "license": package["license"]}


def stripped(binary):
    """The binary without debug information."""
    with tempfile.TemporaryDirectory() as folder:
        slim = pathlib.Path(folder) / "slim"
        subprocess.run(["strip", "--strip-all", "-o", slim, binary], check=True)
        return slim.read_bytes()


def machine(program):
    """The processor of an ELF file, as wheels and as Node.js name it."""
    if program[:4] != b"\x7fELF":
        sys.exit("pack: the binary is not an ELF file: only Linux is packed")
    number = int.from_bytes(program[18:20], "little")
    if number not in MACHINES:
        sys.exit(f"pack: processor {number} is unknown; known: {MACHINES}")
    return MACHINES[number]


def oldest_libc(binary):
    """The oldest glibc with every symbol that the binary asks for, or None for a static binary."""
    symbols = subprocess.run(["objdump", "-T", binary], check=False, capture_output=True, text=True).stdout
    needed = [tuple(map(int, found.split("."))) for found in re.findall(r"GLIBC_(\d+\.\d+)", symbols)]
    return max(needed) if needed else None


def wheel(release, program, processor, libc):
    """A wheel whose one script is the binary (PEP 427), tagged by PEP 600."""
    if libc:
        platform = f"manylinux_{libc[0]}_{libc[1]}_{processor}"
    else:
        platform = f"manylinux2014_{processor}.musllinux_1_1_{processor}"
    stem = f"{release['name']}-{release['version']}"
    tag = f"py3-none-{platform}"
    files = {
        f"{stem}.data/scripts/{release['name']}": program,
        f"{stem}.dist-info/licenses/LICENSE": (ROOT / "LICENSE").read_bytes(),
        f"{stem}.dist-info/METADATA": metadata(release).encode(),
        f"{stem}.dist-info/WHEEL": wheel_file(platform).encode(),
    }
    record = [f"{path},sha256={digest(content)},{len(content)}" for path, content in files.items()]
    record.append(f"{stem}.dist-info/RECORD,,")
    files[f"{stem}.dist-info/RECORD"] = ("\n".join(record) + "\n").encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for path, content in files.items():
            entry = zipfile.ZipInfo(path, MOMENT)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix: the mode counts
            # pip makes executable only what says to be a regular file.
            entry.external_attr = (0o100755 if content is program else 0o100644) << 16
            archive.writestr(entry, content)
    return f"{stem}-{tag}.whl", packed.getvalue()


def metadata(release):
    """METADATA of the wheel; the README is its description."""
    return "\n".join([
        "Metadata-Version: 2.4",
        f"Name: {release['name']}",
        f"Version: {release['version']}",
        f"Summary: {SUMMARY}",
        f"License-Expression: {release['license']}",
        "License-File: LICENSE",
        "Requires-Python: >=3.8",
        "Description-Content-Type: text/markdown",
        "",
        (ROOT / "README.md").read_text(),
    ])


def wheel_file(platform):
    """WHEEL of the wheel: one line for each tag of a compressed set."""
    tags = [f"Tag: py3-none-{each}" for each in platform.split(".")]
    return "\n".join(["Wheel-Version: 1.0", "Generator: outrigger pack.py", "Root-Is-Purelib: false", *tags, ""])


def digest(content):
    """SHA-256 as RECORD writes it: base64 for URLs, without padding."""
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def npm(release, program, processor, libc):
    """An npm package whose `bin` is the binary; `os`, `cpu` and `libc` let npm refuse other hosts."""
    manifest = {
        "name": release["name"],
        "version": release["version"],
        "description": SUMMARY,
        "license": release["license"],
        "bin": {release["name"]: f"bin/{release['name']}"},
        "os": ["linux"],
        "cpu": [processor],
    }
    if libc:
        manifest["libc"] = ["glibc"]
    files = {
        "package/package.json": (json.dumps(manifest, indent=2) + "\n").encode(),
        "package/README.md": (ROOT / "README.md").read_bytes(),
        "package/LICENSE": (ROOT / "LICENSE").read_bytes(),
        f"package/bin/{release['name']}": program,
    }
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=6, mtime=0) as stream:
        with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for path, content in files.items():
                entry = tarfile.TarInfo(path)
                entry.size = len(content)
                entry.mode = 0o755 if content is program else 0o644
                archive.addfile(entry, io.BytesIO(content))
    return f"{release['name']}-{release['version']}-linux-{processor}.tgz", packed.getvalue()


if __name__ == "__main__":
    os.umask(0o022)
    main()
