package healing

import (
	"fmt"
	"slices"
	"strconv"
	"time"
	_ "time/tzdata" // the image has no time zones of its own

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// within says whether a time is in one of the windows; none at all: always. A
// window that cannot be understood is an error.
func within(windows []v1alpha1.MaintenanceWindow, now time.Time) (bool, error) {
	open := len(windows) == 0
	for i, w := range windows {
		in, err := inWindow(w, now)
		if err != nil {
			return false, fmt.Errorf("spec.healing.maintenanceWindows[%d]: %w", i, err)
		}
		open = open || in
	}
	return open, nil
}

// inWindow says whether a time is in a window that began on its day, or on the day
// before.
func inWindow(w v1alpha1.MaintenanceWindow, now time.Time) (bool, error) {
	zone := w.TimeZone
	if zone == "" {
		zone = "UTC"
	}
	location, err := time.LoadLocation(zone)
	if err != nil || zone == "Local" {
		return false, fmt.Errorf("the time zone %q is not known", w.TimeZone)
	}
	from, err := minutes(w.From, "00:00")
	if err != nil {
		return false, err
	}
	to, err := minutes(w.To, "24:00")
	if err != nil {
		return false, err
	}
	local := now.In(location)
	at := local.Hour()*60 + local.Minute()
	begins := func(day time.Weekday) bool {
		return len(w.Days) == 0 || slices.Contains(w.Days, v1alpha1.Weekday(day.String()))
	}
	today, yesterday := local.Weekday(), (local.Weekday()+6)%7
	if from < to {
		return begins(today) && from <= at && at < to, nil
	}
	return begins(today) && from <= at || begins(yesterday) && at < to, nil
}

// minutes since midnight of a time of day such as 05:30.
func minutes(text, empty string) (int, error) {
	if text == "" {
		text = empty
	}
	if len(text) == 5 && text[2] == ':' {
		hours, err := strconv.ParseUint(text[:2], 10, 8)
		past, err2 := strconv.ParseUint(text[3:], 10, 8)
		if err == nil && err2 == nil && past < 60 && hours*60+past <= 24*60 {
			return int(hours*60 + past), nil
		}
	}
	return 0, fmt.Errorf("%q is no time of day such as 05:30", text)
}
