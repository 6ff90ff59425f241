package mqtt_test

import (
	"strings"
	"testing"

	"github.com/toklip/toklip/api"
	"github.com/toklip/toklip/mqtt"
)

// A camera that the node has no more does not stay online at the broker for ever. All else that is retained stays.
func TestStatusOfCameraGone(t *testing.T) {
	brokers(t, func(t *testing.T, b *anyBroker) {
		for _, late := range []bool{false, true} { // the node knows its cameras before or after it is connected
			c, err := mqtt.New(mqtt.Options{Broker: b.url, Node: "robot-1", Logger: testLog(t)})
			if err != nil {
				t.Fatal(err)
			}
			topic := c.Topics()
			before := observe(t, b.url)
			online := `{"status":"online"}`
			calibration := topic.Camera("porch", api.KindCalibration)
			foreign := strings.Replace(topic.Camera("porch", api.KindStatus), "robot-1", "robot-2", 1)
			for _, name := range []string{
				topic.Camera("porch", api.KindStatus), topic.Camera("front", api.KindStatus), topic.Camera("extra", api.KindStatus), calibration, foreign,
			} {
				before.send(t, name, true, online)
			}

			setInfo := func() {
				if err := c.SetInfo(api.Info{Cameras: []api.CameraInfo{{Name: "front"}}}); err != nil {
					t.Fatal(err)
				}
			}
			if err := c.SetCameraStatus("extra", api.CameraStatus{Status: api.CameraOnline}); err != nil {
				t.Fatal(err)
			}
			if !late {
				setInfo()
			}
			seen := observe(t, b.url, "toklip/+/camera/#")
			stop := run(t, c)
			connected(t, c)
			if late {
				setInfo()
			}
			seen.await(t, topic.Camera("porch", api.KindStatus), is(""))
			stop()
			after := observe(t, b.url, "toklip/+/camera/#", topic.Availability())
			after.await(t, topic.Availability(), is(api.Offline)) // retained messages of the subscription before have come
			for name, want := range map[string]bool{
				topic.Camera("porch", api.KindStatus): false, topic.Camera("front", api.KindStatus): true,
				topic.Camera("extra", api.KindStatus): true, calibration: true, foreign: true,
			} {
				if _, there := after.last(name); there != want {
					t.Errorf("late %v: %s is retained: %v, want %v", late, name, there, want)
				}
			}
		}
	})
}
