package crds_test

import "slices"

const (
	healingDuration = "must be a duration such as 10m or 1h30m"
	healingBounds   = "must be between 1m and 24h"
	timeZoneWanted  = "must be the name of a time zone, such as Europe/Berlin or UTC"
)

// waitRefused are the rules of every time in spec.healing.
func waitRefused(field string) []bad {
	return []bad{
		{name: field + " without a unit", of: "cluster", set: fields{field: "10"}, field: field, message: healingDuration},
		{name: field + " that is too short", of: "cluster", set: fields{field: "59s"}, field: field, message: healingBounds},
		{name: field + " that is too long", of: "cluster", set: fields{field: "25h"}, field: field, message: healingBounds},
	}
}

var healingRefused = slices.Concat([]bad{
	{name: "a window that begins at no time", of: "cluster", set: fields{"spec.healing.maintenanceWindows[0].from": "24:00"}, field: "spec.healing.maintenanceWindows[0].from",
		message: "must be a time of day from 00:00 to 23:59, such as 22:00"},
	{name: "a window that ends at no time", of: "cluster", set: fields{"spec.healing.maintenanceWindows[0].to": "5:30"}, field: "spec.healing.maintenanceWindows[0].to",
		message: "must be a time of day from 00:00 to 24:00, such as 05:30"},
	{name: "a window of no time", of: "cluster", set: fields{"spec.healing.maintenanceWindows[0].to": "22:00"}, field: "spec.healing.maintenanceWindows[0].to",
		message: "must not be from: for whole days leave from and to at 00:00 and 24:00"},
	{name: "a time zone by its offset", of: "cluster", set: fields{"spec.healing.maintenanceWindows[0].timeZone": "+02:00"}, field: "spec.healing.maintenanceWindows[0].timeZone", message: timeZoneWanted},
	{name: "the time zone of whatever machine it is", of: "cluster", set: fields{"spec.healing.maintenanceWindows[0].timeZone": "Local"}, field: "spec.healing.maintenanceWindows[0].timeZone", message: timeZoneWanted},
	{name: "a window on no day", of: "cluster", set: fields{"spec.healing.maintenanceWindows[0].days[0]": "Sonntag"}, field: "spec.healing.maintenanceWindows[0].days[0]",
		message: `supported values: "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"`},
	{name: "a storm that is most of the members", of: "cluster", set: fields{"spec.healing.maxUnhealthyPercent": int64(51)}, field: "spec.healing.maxUnhealthyPercent",
		message: "spec.healing.maxUnhealthyPercent in body should be less than or equal to 50"},
	{name: "a storm of nothing", of: "cluster", set: fields{"spec.healing.maxUnhealthyPercent": int64(0)}, field: "spec.healing.maxUnhealthyPercent",
		message: "spec.healing.maxUnhealthyPercent in body should be greater than or equal to 1"},
	{name: "more tries than are remembered", of: "cluster", set: fields{"spec.healing.power.tries": int64(5)}, field: "spec.healing.power.tries",
		message: "spec.healing.power.tries in body should be less than or equal to 4"},
	{name: "fewer reinstallations than none", of: "cluster", set: fields{"spec.healing.maxReinstallsPerDay": int64(-1)}, field: "spec.healing.maxReinstallsPerDay",
		message: "spec.healing.maxReinstallsPerDay in body should be greater than or equal to 0"},
	{name: "a mode of healing that there is not", of: "cluster", set: fields{"spec.healing.mode": "Yes"}, field: "spec.healing.mode",
		message: `supported values: "Disabled", "DryRun", "Enabled"`},
	{name: "a mode of a node that there is not", of: "node", set: fields{"spec.healing.mode": "Off"}, field: "spec.healing.mode",
		message: `supported values: "Disabled", "DryRun", "Enabled"`},
	{name: "a storage that there is not", of: "node", set: fields{"spec.healing.storage": "None"}, field: "spec.healing.storage",
		message: `supported values: "Auto", "Disposable", "Keep"`},
},
	waitRefused("spec.healing.unhealthyAfter"),
	waitRefused("spec.healing.coolDown"),
	waitRefused("spec.healing.reboot.timeout"),
	waitRefused("spec.healing.power.timeout"),
	waitRefused("spec.healing.reinstall.timeout"),
)
