"""Drives the virtual controller by sushy, a Redfish client of OpenStack's: what it
cannot do, a real controller's user could not do either.

  visit.py URL CERTIFICATE USERNAME PASSWORD session|basic
"""
import sys

import sushy
from sushy import auth, exceptions

url, certificate, username, password, way = sys.argv[1:]


def client(secret):
    how = auth.SessionAuth if way == "session" else auth.BasicAuth
    return sushy.Sushy(url, auth=how(username=username, password=secret), verify=certificate)


def expect(what, got, want):
    if got != want:
        sys.exit(f"{what}: got {got!r}, want {want!r}")
    print(f"{what}: {got}")


try:
    client("wrong").get_system_collection().get_members()
    sys.exit("a wrong password was taken")
except exceptions.AccessError as e:
    print("a wrong password:", type(e).__name__)

root = client(password)
systems = root.get_system_collection()
expect("systems", sorted(s.identity for s in systems.get_members()), ["1", "Blade.2"])
system = root.get_system("/redfish/v1/Systems/1")


def state(want):
    system.invalidate()
    system.refresh(force=True)
    expect("power state", system.power_state, want)


state(sushy.PowerState.OFF)
expect("boot device once is allowed", sushy.BootSource.PXE in system.get_allowed_system_boot_source_values(), True)
expect("ForceOff is allowed", sushy.ResetType.FORCE_OFF in system.get_allowed_reset_system_values(), True)

system.set_system_boot_options(sushy.BootSource.PXE, enabled=sushy.BootSourceOverrideEnabled.ONCE)
system.invalidate()
system.refresh(force=True)
expect("boot device", system.boot.target, sushy.BootSource.PXE)
expect("boot device is for", system.boot.enabled, sushy.BootSourceOverrideEnabled.ONCE)

system.reset_system(sushy.ResetType.ON)
state(sushy.PowerState.ON)
expect("then the boot device is for", system.boot.enabled, sushy.BootSourceOverrideEnabled.DISABLED)
system.reset_system(sushy.ResetType.FORCE_RESTART)
state(sushy.PowerState.ON)
system.reset_system(sushy.ResetType.GRACEFUL_SHUTDOWN)
state(sushy.PowerState.OFF)
system.reset_system(sushy.ResetType.ON)
system.reset_system(sushy.ResetType.FORCE_OFF)
state(sushy.PowerState.OFF)

try:
    system.set_system_boot_options(sushy.BootSource.FLOPPY, enabled=sushy.BootSourceOverrideEnabled.ONCE)
    sys.exit("a boot device that is not offered was taken")
except exceptions.InvalidParameterValueError as e:
    print("a boot device that is not offered:", type(e).__name__)

root._auth.close()
print("done")
