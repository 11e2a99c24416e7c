"""Settings that give a service a mount namespace of its own, in which its mount would be seen by nobody else.

From systemd's source: exec_needs_mount_namespace() in src/core/execute.c, of 252 and of the main branch in 2026. The function is
the whole truth of a version; a later one may add more. make systemd-vm tries each row on a real systemd.
"""

from __future__ import annotations

from typing import NamedTuple


class Maker(NamedTuple):
    """A setting, a value of it that makes a namespace, and the systemd version from which on it does so (0: 252 already)."""

    setting: str
    value: str
    since: int = 0


MAKERS = (
    Maker("PrivateMounts", "yes"),
    Maker("MountFlags", "slave"),
    Maker("PrivateTmp", "yes"),
    Maker("PrivateDevices", "yes"),
    Maker("PrivateIPC", "yes"),
    Maker("IPCNamespacePath", "/proc/1/ns/ipc"),
    Maker("PrivateNetwork", "yes", 254),
    Maker("NetworkNamespacePath", "/proc/1/ns/net", 254),
    Maker("PrivatePIDs", "yes", 257),
    Maker("PrivateBPF", "yes", 258),
    Maker("ProtectSystem", "yes"),
    Maker("ProtectHome", "yes"),
    Maker("ProtectProc", "invisible"),
    Maker("ProcSubset", "pid"),
    Maker("ProtectKernelTunables", "yes"),
    Maker("ProtectKernelModules", "yes"),
    Maker("ProtectKernelLogs", "yes"),
    Maker("ProtectControlGroups", "yes"),
    Maker("ReadWritePaths", "/srv"),
    Maker("ReadOnlyPaths", "/srv"),
    Maker("InaccessiblePaths", "/srv"),
    Maker("ExecPaths", "/srv"),
    Maker("NoExecPaths", "/srv"),
    Maker("BindPaths", "/srv"),
    Maker("BindReadOnlyPaths", "/srv"),
    Maker("BindLogSockets", "yes", 257),
    Maker("TemporaryFileSystem", "/srv"),
    Maker("MountImages", "/srv/image.raw:/srv"),
    Maker("ExtensionImages", "/srv/image.raw"),
    Maker("ExtensionDirectories", "/srv"),
    Maker("RootDirectory", "/srv/root"),
    Maker("RootImage", "/srv/image.raw"),
    Maker("LogNamespace", "vmcorefs"),
    Maker("DynamicUser", "yes"),
)

# No namespace by themselves, but the settings above take effect with them, or what they share or set up is of that kind.
COMPANIONS = ("JoinsNamespaceOf", "MountAPIVFS", "RootDirectoryStartOnly", "RootEphemeral", "RootHash", "RootVerity", "RootMStack")

# The daemon's directories must stay ours and be shared by all instances: RuntimeDirectory=vmcorefs would remove the records of the
# other mounts when one ends. In a user namespace, or as another user, nothing can be mounted.
OTHERS = ("RuntimeDirectory", "StateDirectory", "CacheDirectory", "LogsDirectory", "ConfigurationDirectory", "PrivateUsers", "User",
          "UserNamespacePath")

# Those that want a second root file system, or an image of one
NOT_TRIED = frozenset({"MountImages", "ExtensionImages", "RootImage", "RootDirectory", "ExtensionDirectories"})
