// Package mqtt publishes what a node has to say and takes its commands.
//
// A [Client] holds the node's connection to a broker. Documents ([Client.SetInfo],
// [Client.SetState], [Client.SetCameraStatus], …) are kept and published, retained, on
// every connect; frame messages ([Client.PublishFrame], [Client.PublishRegions]) go out
// while there is a connection, newest first, and are counted as dropped otherwise; events
// ([Client.PublishEvent]) wait for the broker. Commands reach the functions registered with
// [Client.Handle] and [Client.HandleLong].
//
//	c, err := mqtt.New(mqtt.Options{Broker: "mqtt://127.0.0.1:1883", Node: "robot-1", Logger: logger})
//	c.Handle("ping", func(context.Context, json.RawMessage) (any, error) { return "pong", nil })
//	c.SetInfo(info)
//	go func() { done <- c.Run(ctx) }()
//	c.PublishFrame(&mqtt.Frame{Header: header, Tokens: ids, …}) // never blocks
//
// A [Broker] is a small MQTT server inside the program, for machines without one.
//
// # Connections
//
// MQTT 3.1.1, clean sessions, a client id that stays the same. Each connection is a new
// client of the library beneath (paho.mqtt.golang), made by one loop in [Client.Run]: its
// own reconnecting cannot be interrupted, pretends success for QoS 0 meanwhile, keeps
// QoS 1 messages without bound, and leaves open what became of a message in flight. The
// loop starts every connection with the same steps: subscribe, documents, availability.
//
// # Queues
//
// One slot for each camera holds the newest result, another its newest regions, one for
// each document its newest text; at most 16 quick commands, 16 long ones, 64 replies and
// 4096 events wait. What does not fit is dropped and counted: a slow or lost broker never
// slows the pipeline.
package mqtt
